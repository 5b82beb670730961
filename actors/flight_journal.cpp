#include "actors/flight_journal.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
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

// FNV-1a: the same in every build, unlike std::hash.
std::uint64_t hash_of(const std::string& text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const unsigned char byte : text) hash = (hash ^ byte) * 0x100000001b3;
  return hash;
}

Result<void*> lock_and_map(int file, std::size_t size, const std::string& what) {
  if (flock(file, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return Error{Fault::io, "cannot lock " + what + ": " + std::strerror(errno)};
    return Error{Fault::unavailable, what + " is in use by another kpoold; give each its own"};
  }
  // Allocated, not only extended: a hole on a full tmpfs would be a SIGBUS at the first write.
  if (const int error = posix_fallocate(file, 0, static_cast<off_t>(size)); error != 0)
    return Error{error == ENOSPC ? Fault::no_space : Fault::io,
                 "cannot make room for " + what + ": " + std::strerror(error)};
  void* page = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (page == MAP_FAILED) return Error{Fault::io, "cannot map " + what + ": " + std::strerror(errno)};
  return page;
}

}  // namespace

Result<std::unique_ptr<FlightJournal>> FlightJournal::open(const JournalPlace& place) {
  const std::string what = "the journal '" + place.path + "' (engine.journal)";
  const int file = ::open(place.path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0) return Error{Fault::io, "cannot open " + what + ": " + std::strerror(errno)};
  auto page = lock_and_map(file, sizeof(Page), what);
  if (!page) {
    close(file);
    return page.error();
  }
  return std::unique_ptr<FlightJournal>(new FlightJournal(static_cast<Page*>(*page), file, hash_of(place.pool)));
}

FlightJournal::FlightJournal(Page* page, int file, std::uint64_t pool) : page_(page), file_(file) {
  if (page_->pool != pool) *page_ = Page{};
  page_->pool = pool;
  after_crash_ = page_->crashed != 0;
  if (after_crash_) careful_groups_ = 64;
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
  close(file_);
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
