// The journal of what is in hand: crashes of the process count against the record, kills do not.
#include <catch2/catch.hpp>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "actors/flight_journal.hpp"
#include "actors/training.hpp"
#include "tests/actors_support.hpp"
#include "tests/temporary_directory.hpp"

using namespace kpool;
using namespace kpool::testing;

namespace {

std::unique_ptr<FlightJournal> opened(const std::string& path, const std::string& pool = "pool") {
  auto journal = FlightJournal::open({path, pool});
  if (!journal) FAIL(journal.error().message);
  return *std::move(journal);
}

/// A process that takes a record into its hand and ends by a signal.
void die_with(const std::string& path, const Origin& origin, int signal) {
  const pid_t child = fork();
  if (child == 0) {
    FlightJournal::watch_fatal_signals();
    auto journal = FlightJournal::open({path, "pool"});
    if (!journal) _exit(1);
    (*journal)->take(origin);
    raise(signal);
    _exit(2);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == signal);
}

/// Gives up on record 13, in whichever step it is: a step trains five records.
class ThrowingLearner : public Learner {
 public:
  std::optional<MergeReport> open(const Birth&) override { return std::nullopt; }
  std::vector<StepReport> learn(std::uint32_t, Sample sample) override {
    buffer_.push_back(sample.origin.seq);
    return buffer_.size() < 5 ? std::vector<StepReport>{} : flush();
  }
  std::vector<StepReport> flush() override {
    for (const auto seq : std::exchange(buffer_, {}))
      if (seq == 13) throw std::runtime_error("a library gave up");
    return {};
  }
  double agreement(std::uint32_t, std::uint32_t) const override { return 0; }
  std::vector<std::uint32_t> take_dirty() override { return {}; }
  std::string save(std::uint32_t) const override { return {}; }
  Status restore(std::uint32_t, std::string_view) override { return Done{}; }

 private:
  std::vector<std::uint64_t> buffer_;
};

}  // namespace

TEST_CASE("a record that was in hand at three crashes is poison, and no other is") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("journal");
  const Origin bad{1, 9}, neighbour{1, 10};
  for (int crash = 1; crash <= 3; ++crash) {
    CHECK_FALSE(opened(path)->is_poison(bad));
    die_with(path, bad, crash == 2 ? SIGABRT : SIGSEGV);
  }
  auto journal = opened(path);
  CHECK(journal->is_poison(bad));
  CHECK_FALSE(journal->is_poison(neighbour));
  journal.reset();
  CHECK(opened(path)->is_poison(bad));  // it stays so
}

TEST_CASE("kill -9 is not the record's fault, nor is a crash after it was put down") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("journal");
  for (int kill = 0; kill < 4; ++kill) die_with(path, {0, 5}, SIGKILL);
  CHECK_FALSE(opened(path)->is_poison({0, 5}));
  for (int end = 0; end < 4; ++end) {
    auto journal = opened(path);
    journal->take({0, 6});
    journal->put_down();
    journal->mark_crash();
  }
  CHECK_FALSE(opened(path)->is_poison({0, 6}));
}

TEST_CASE("a journal that cannot be opened is named") {
  const auto journal = FlightJournal::open({"/no/such/directory/journal", "pool"});
  REQUIRE_FALSE(journal);
  CHECK(journal.error().fault == Fault::io);
  CHECK(journal.error().message ==
        "cannot open the journal '/no/such/directory/journal' (engine.journal): No such file or directory");
}

TEST_CASE("a journal is emptied when it is of another pool, and kept when it is not") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("journal");
  for (int crash = 1; crash <= 3; ++crash) die_with(path, {1, 9}, SIGSEGV);
  CHECK(opened(path)->is_poison({1, 9}));
  auto other = opened(path, "another pool");
  CHECK_FALSE(other->is_poison({1, 9}));
  CHECK_FALSE(other->after_crash());
  other.reset();
  CHECK_FALSE(opened(path)->is_poison({1, 9}));  // nor does it come back
}

TEST_CASE("a journal in use is left alone by a second daemon, whichever its pool") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("journal");
  auto first = opened(path);
  first->take({1, 9});
  for (const char* pool : {"pool", "another pool"}) {
    const auto second = FlightJournal::open({path, pool});
    REQUIRE_FALSE(second);
    CHECK(second.error().fault == Fault::unavailable);
    CHECK(second.error().message ==
          "the journal '" + path + "' (engine.journal) is in use by another kpoold; give each its own");
  }
  first->mark_crash();
  first.reset();
  const auto after = opened(path);
  CHECK(after->after_crash());  // what was in hand is still known
  for (int group = 0; group < 64; ++group, after->end_group()) CHECK(after->careful());
  after->end_group();
  CHECK_FALSE(after->careful());
}

TEST_CASE("a full tmpfs is an error that names the path, not a SIGBUS") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("journal");
  const pid_t child = fork();  // the mount is its alone
  if (child == 0) {
    if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) _exit(77);
    if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("none", directory.path().c_str(), "tmpfs", 0, "size=4096") != 0)
      _exit(77);
    std::ofstream(directory.file("full")) << std::string(4096, 'x') << std::flush;
    const auto journal = FlightJournal::open({path, "pool"});
    if (journal) _exit(1);
    _exit(journal.error().fault == Fault::no_space && journal.error().message ==
          "cannot make room for the journal '" + path + "' (engine.journal): No space left on device" ? 0 : 2);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 77) WARN("this user may mount no tmpfs: not tried");
  else CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("the journal holds numbers alone") {
  const TemporaryDirectory directory;
  opened(directory.file("journal"))->take({3, 4});
  std::ifstream in(directory.file("journal"), std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(in), {}};
  CHECK(bytes.size() < 4096);
}

TEST_CASE("a record in a step that crashes is found and refused as poison, its neighbours are learned") {
  // Record 13 is trained when a later one fills the step, or when a barrier ends it.
  for (const std::vector<std::uint64_t> seqs : {std::vector<std::uint64_t>{11, 12, 13, 14, 15, 16}, {12, 13, 14}}) {
    const TemporaryDirectory directory;
    FakeOutbox out;
    const auto life = [&] {
      Training training([]() -> Result<std::unique_ptr<Learner>> {
        return std::unique_ptr<Learner>(new ThrowingLearner);
      }, "id", {directory.file("journal"), "pool"});
      REQUIRE(training.open());
      REQUIRE(training.start(0, out));
      const auto all = [&](pipeline::Message message) {
        REQUIRE(training.on_message(std::move(message), out));
        while (training.has_work()) {
          const Status worked = training.work(out);
          REQUIRE(worked);
        }
      };
      for (const auto seq : seqs) all(pipeline::Routed{0, {{{0, seq}, 0, {1, 2}}}});
      all(pipeline::Barrier{1, "routing"});
    };
    int crashes = 0;
    for (bool done = false; !done && crashes < 20;) {
      out.sent.clear();
      try {
        life();
        done = true;
      } catch (const std::runtime_error&) {
        ++crashes;
      }
    }
    CHECK(crashes == 4);  // one that named another record or none, and the three of its own
    const auto refused = out.to<pipeline::Refused>(StageId::persistence);
    REQUIRE(refused.size() == 1);
    CHECK(refused[0].group == 1);
    REQUIRE(refused[0].records.size() == 1);
    CHECK(refused[0].records[0].origin == Origin{0, 13});
    CHECK(refused[0].records[0].reason == Refusal::poison);
    CHECK(out.all<pipeline::Barrier>().size() == 2);
  }
}
