"""What one row of kpool-eval says: continual-learning metrics, routing, collapse, and where the loss goes.

Losses are nats per token on held-out text; R[i][j] = -loss of domain j after segment i, as in Lopez-Paz & Ranzato
(2017). Definitions: docs/evaluation.md.
"""
import math

BATCH_RECORDS = 8  # the unit of rates, whatever routing.batch_records is


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else float("nan")


def last_segment_of(row):
    """domain -> index (into the tables of the row) of the last segment that was the domain's alone."""
    return {domain: i for i, domain in enumerate(row["segments"]) if domain >= 0}


def forgetting(losses, last):
    """Chaudhry et al. 2018: mean over j of max over l < T of R[l][j] - R[T][j], l = 1 being the first segment (line 0,
    the base, is none). The domain that was learned last has nothing to forget yet."""
    return mean(losses[-1][domain] - min(line[domain] for line in losses[1:-1])
                for domain, own in last.items() if own < len(losses) - 1)


def backward_transfer(losses, last):
    return mean(losses[own][domain] - losses[-1][domain] for domain, own in last.items() if own < len(losses) - 1)


def forward_transfer(row):
    """What a domain gained over the base before its first own segment."""
    first = {}
    for i, domain in enumerate(row["segments"]):
        if domain >= 0:
            first.setdefault(domain, i)
    return mean(row["losses"][0][d] - row["losses"][i - 1][d] for d, i in first.items() if i > 1)


def live_generations(row):
    """Generations that the pool still holds at the end: the last one that was born in each slot."""
    return set({birth["slot"]: birth["generation"] for birth in row["births"]}.values())


def regret(row, last):
    """routing + interference + eviction = loss as routed at the end - loss right after the domain's own learning."""
    parts = {"routing": [], "interference": [], "eviction": []}
    live = live_generations(row)
    for domain, own in last.items():
        routed, final = row["losses"][-1][domain], row["own_losses"][-1][domain]
        then, owner = row["own_losses"][own][domain], row["owners"][own][domain]
        lost = owner != 0 and owner not in live
        parts["routing"].append(0 if lost else routed - final)
        parts["interference"].append(0 if lost else final - then)
        parts["eviction"].append(routed - then if lost else 0)
    return {name: mean(values) for name, values in parts.items()}


def entropy(shares):
    return -sum(p * math.log(p) for p in shares if p > 0)


def normalised_mutual_information(tables):
    """Of domain and slot generation; tables: per domain [[generation, records], ...]. Arithmetic mean of entropies."""
    total = sum(count for table in tables for _, count in table)
    if not total:
        return float("nan")
    by_domain = [sum(count for _, count in table) / total for table in tables]
    by_slot = {}
    for table in tables:
        for generation, count in table:
            by_slot[generation] = by_slot.get(generation, 0) + count / total
    mutual = sum(count / total * math.log(count / total / by_domain[d] / by_slot[generation])
                 for d, table in enumerate(tables) for generation, count in table if count)
    spread = (entropy(by_domain) + entropy(by_slot.values())) / 2
    return mutual / spread if spread > 0 else 1.0


def conditional_entropy(tables):
    """H(slot | domain) in nats; tables as above."""
    counts = [[count for _, count in table] for table in tables]
    total = sum(map(sum, counts))
    return sum(sum(of_domain) / total * entropy(count / sum(of_domain) for count in of_domain)
               for of_domain in counts if of_domain) if total else float("nan")


def birth_delay(row):
    """Mean over domains, but the first, of the records until the birth of the slot that most of the domain's records
    had trained after its segment. None where no domain opened its own slot, and where domains recur or are mixed: a row
    does not say how long a segment is, but where each domain has one it is all of the domain's records."""
    order = row["segments"][1:]
    if -1 in order or len(set(order)) < len(order):
        return None
    born = {birth["generation"]: birth for birth in row["births"]}
    delays, before = [], 0
    for line, domain in enumerate(order, 1):
        birth = born.get(row["owners"][line][domain])
        if before and birth and birth["domain"] == domain:
            delays.append(birth["record"] - before)
        before += sum(count for _, count in row["assigned"][domain])
    return mean(delays) if delays else None


def routing(row):
    """Share of held-out records that the slot of their own domain answers, at the end; the worst domain's; domains
    that share their slot with another, or have none."""
    rates = []
    for owner, table in zip(row["owners"][-1], row["queries"][-1]):
        asked = sum(count for _, count in table)
        rates.append(sum(count for generation, count in table if generation == owner and owner) / asked)
    owners = [owner for owner in row["owners"][-1] if owner]
    counts = [sum(c for _, c in table) for table in row["queries"][-1]]
    return {"routing_accuracy": sum(r * c for r, c in zip(rates, counts)) / sum(counts), "worst_domain": min(rates),
            "domains_without_own_slot": len(rates) - len(set(owners))}


def collapsed(row, line):
    """Whether the held-out records of the domains seen by then (each domain counts the same) go nearly all to one slot:
    more than 0.9 of what slots answer, or fewer than 1.5 effective slots. None before two domains were seen."""
    segments = row["segments"][1:line + 1]
    seen = range(len(row["domains"])) if -1 in segments else set(segments)
    if len(seen) < 2:
        return None
    shares = {}
    for domain in seen:
        table = row["queries"][line][domain]
        asked = sum(count for _, count in table)
        for generation, count in table:
            if generation:
                shares[generation] = shares.get(generation, 0) + count / asked
    answered = sum(shares.values())
    shares = [share / answered for share in shares.values()]
    return bool(shares) and (max(shares) > 0.9 or math.exp(entropy(shares)) < 1.5)


def collapse(row):
    """Shares of all training records by generation of slot, those that no record reached counting as 0."""
    counts = {birth["generation"]: 0 for birth in row["births"]}
    for table in row["assigned"]:
        for generation, count in table:
            counts[generation] = counts.get(generation, 0) + count
    total, live = sum(counts.values()), live_generations(row)
    if not total:
        return {}
    shares = [count / total for count in counts.values()]
    variance = mean((share - mean(shares)) ** 2 for share in shares)
    return {"max_share": max(shares), "cv2": variance / mean(shares) ** 2, "effective_slots": math.exp(entropy(shares)),
            "normalised_entropy": entropy(shares) / math.log(len(shares)) if len(shares) > 1 else 0.0,
            "dead_slots": sum(counts[generation] / total < 0.1 / len(live) for generation in live),
            "collapsed_lines": sum(collapsed(row, line) or False for line in range(len(row["segments"])))}


def calibration_error(table):
    """Expected calibration error (Naeini et al. 2015) of [[records, sum of confidences, right], ...]."""
    records = sum(count for count, _, _ in table)
    return sum(abs(right - confidence) for _, confidence, right in table) / records if records else None


def of_row(row):
    last = last_segment_of(row)
    births = row["births"]
    extra = len(births) - len({birth["domain"] for birth in births})
    values = {"births": len(births), "evictions": sum(birth["evicts"] for birth in births), "extra_births": extra,
              "extra_birth_rate": 1000 * BATCH_RECORDS * extra / max(1, row["records"]),
              "nmi": normalised_mutual_information(row["assigned"]),
              "conditional_entropy": conditional_entropy(row["assigned"]), **routing(row), **collapse(row)}
    error = calibration_error(row["calibration"][-1]) if "calibration" in row else None
    for name, value in (("ece", error), ("birth_delay", birth_delay(row))):
        if value is not None:
            values[name] = value
    if "losses" in row:
        losses = row["losses"]
        values |= {"base_loss": mean(losses[0]), "final_loss": mean(losses[-1]), "forgetting": forgetting(losses, last),
                   "prequential": mean(loss for loss in row["prequential"] if loss is not None),
                   "backward_transfer": backward_transfer(losses, last), "forward_transfer": forward_transfer(row),
                   **{f"regret_{name}": value for name, value in regret(row, last).items()}}
    return values
