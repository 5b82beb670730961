#include "actors/flight_journal.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include <spdlog/spdlog.h>

namespace kpool {

namespace {

// What a signal handler can reach: a registry, the one thing here that is global.
std::array<std::atomic<FlightJournal*>, 8> open_journals{};

void on_fatal_signal(int signal) {
  for (auto& journal : open_journals)
    if (FlightJournal* open = journal.load()) open->mark_crash();
  ::signal(signal, SIG_DFL);
  raise(signal);
}

}  // namespace

Result<std::unique_ptr<FlightJournal>> FlightJournal::open(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0)
    return Error{Fault::io, "cannot open the journal '" + path + "' (engine.journal): " + std::strerror(errno)};
  void* page = MAP_FAILED;
  if (ftruncate(file, sizeof(Page)) == 0)
    page = mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (page == MAP_FAILED) return Error{Fault::io, "cannot map the journal '" + path + "': " + std::strerror(errno)};
  return std::unique_ptr<FlightJournal>(new FlightJournal(static_cast<Page*>(page)));
}

FlightJournal::FlightJournal(Page* page) : page_(page) {
  after_crash_ = page_->crashed != 0;
  if (after_crash_ && page_->seq != 0) blame({page_->source, page_->seq});
  page_->crashed = 0;
  page_->seq = 0;
  for (auto& place : open_journals) {
    FlightJournal* none = nullptr;
    if (place.compare_exchange_strong(none, this)) return;
  }
  KPOOL_ASSERT(!"more journals than stages");
}

FlightJournal::~FlightJournal() {
  for (auto& place : open_journals) {
    FlightJournal* self = this;
    if (place.compare_exchange_strong(self, nullptr)) break;
  }
  munmap(page_, sizeof(Page));
}

void FlightJournal::blame(const Origin& origin) {
  for (Suspect& suspect : page_->suspects)
    if (suspect.crashes > 0 && suspect.seq == origin.seq && suspect.source == origin.source) {
      ++suspect.crashes;
      spdlog::warn("record {} of source {} was in hand at {} crashes", origin.seq, origin.source, suspect.crashes);
      return;
    }
  page_->suspects[page_->next_suspect++ % page_->suspects.size()] = {origin.seq, origin.source, 1};
}

void FlightJournal::take(const Origin& origin) {
  page_->source = origin.source;
  page_->seq = origin.seq;
}

void FlightJournal::put_down() { page_->seq = 0; }

bool FlightJournal::is_poison(const Origin& origin) const {
  for (const Suspect& suspect : page_->suspects)
    if (suspect.crashes >= crashes_max && suspect.seq == origin.seq && suspect.source == origin.source) return true;
  return false;
}

void FlightJournal::mark_crash() { page_->crashed = 1; }

void FlightJournal::watch_fatal_signals() {
  for (int signal : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT}) {
    struct sigaction action {};
    action.sa_handler = on_fatal_signal;
    sigaction(signal, &action, nullptr);
  }
}

}  // namespace kpool
