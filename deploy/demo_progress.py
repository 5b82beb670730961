"""What the demo shows while the daemon learns: one line on a terminal, a line now and then elsewhere."""
import sys
import time


class Progress:
    """Follows the status of one daemon over the domains in turn. tokens: domain -> how many are predicted in it."""

    def __init__(self, tokens, slots):
        self.tokens, self.slots = tokens, slots
        self.records = {}             # domain -> records per slot
        self.busy_seconds = 0.0       # streaming time of the domains before
        self.trained_before = 0
        self.terminal = sys.stdout.isatty()
        self.printed = 0.0

    def start(self, status):
        self.slot_records = self.records_of(status)
        self.slot_tokens = {}
        self.trained = 0
        self.domain_started = None

    def records_of(self, status):
        counts = [0] * self.slots
        for slot in status["stages"].get("routing", {}).get("slots", []):
            counts[slot["slot"]] = slot["records"]
        return counts

    def count_tokens(self, status):
        """Tokens trained so far; a slot that was evicted begins again at zero."""
        for slot in status["stages"].get("fragility", {}).get("slots", []):
            key = (slot["slot"], slot["generation"])
            self.slot_tokens[key] = max(slot["tokens"], self.slot_tokens.get(key, 0))
        self.trained = sum(self.slot_tokens.values())

    def show(self, domain, status):
        if self.domain_started is None:
            self.domain_started = time.monotonic()
        self.count_tokens(status)
        now = time.monotonic()
        if self.terminal:
            print(f"\r{self.line(domain, status)}\033[K", end="", flush=True)
        elif now - self.printed >= 10:
            print(self.line(domain, status), flush=True)
            self.printed = now

    def line(self, domain, status):
        seconds = self.busy_seconds + time.monotonic() - self.domain_started
        rate = self.trained / seconds if seconds > 0 else 0
        all_tokens = sum(self.tokens.values())
        left = max(all_tokens - self.trained, 0) / rate if rate else 0
        eta = f"{int(left) // 60}:{int(left) % 60:02d}" if rate else "-:--"
        counts = self.records_of(status)
        losses = {slot["slot"]: slot["loss"] for slot in status["stages"].get("fragility", {}).get("slots", [])}
        slots = "  ".join(f"{k}:{counts[k]}/{losses[k]:.2f}" for k in range(self.slots) if k in losses)
        return (f"{domain:<12} {self.trained:6d}/{all_tokens} tokens  {rate:4.0f}/s  ETA {eta}  "
                f"slot:records/loss  {slots or '-'}")

    def finish(self, domain, status):
        self.count_tokens(status)
        start, end = ("\r", "\033[K\n") if self.terminal else ("", "\n")
        print(f"{start}{self.line(domain, status)}", end=end, flush=True)
        self.busy_seconds += time.monotonic() - self.domain_started
        self.domain_started = None
        counts = self.records_of(status)
        self.records[domain] = [now - before for now, before in zip(counts, self.slot_records)]
        self.slot_records = counts
