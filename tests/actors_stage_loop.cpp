// The shell around a stage, over inproc, with the test at the other ends of its sockets.
#include <catch2/catch.hpp>
#include <sys/eventfd.h>
#include <unistd.h>

#include <thread>

#include "actors/stage_loop.hpp"

using namespace kpool;
using namespace kpool::pipeline;

namespace {

struct Log {
  std::vector<std::string> lines;
  bool accepts = true;
  int work = 0;
};

/// Seen from outside: routing. What is asked of it is written down.
class LoggingStage : public Stage {
 public:
  explicit LoggingStage(Log& log) : log_(log) {}
  StageId id() const override { return StageId::routing; }
  std::string identity() const override { return "an identity"; }
  Status restore(const std::string& key, std::string value) override { return line(key + "=" + value); }
  Status start(std::uint64_t group, Outbox&) override { return line("start " + std::to_string(group)); }
  Status on_message(Message message, Outbox& out) override {
    if (auto* ranking = std::get_if<Ranking>(&message)) return line("ranking " + std::to_string(ranking->group));
    if (auto* barrier = std::get_if<Barrier>(&message)) {
      out.send(StageId::training, *barrier);
      return line("barrier " + std::to_string(barrier->group));
    }
    return line("message");
  }
  bool accepts_records() const override { return log_.accepts; }
  bool has_work() const override { return log_.work > 0; }
  Status work(Outbox&) override {
    --log_.work;
    return line("work");
  }
  std::string report() const override { return "{}"; }

 private:
  Status line(std::string text) {
    log_.lines.push_back(std::move(text));
    return Done{};
  }
  Log& log_;
};

/// The loop of one stage with all its neighbours' sockets in the hands of the test.
struct Fixture {
  Fixture() : wake(eventfd(0, EFD_NONBLOCK)) {
    const Transport transport;
    std::map<StageId, Links> bound;
    for (const StageId id : {StageId::training, StageId::persistence, StageId::serving, StageId::routing})
      bound.emplace(id, *bind_links(context, transport, id));
    connect_links(context, transport, StageId::routing, bound.at(StageId::routing));
    loop = std::make_unique<StageLoop>(std::make_unique<LoggingStage>(log), std::move(bound.at(StageId::routing)),
                                       std::vector<std::unique_ptr<Door>>{});
    training = std::move(bound.at(StageId::training).records);
    persistence = std::move(bound.at(StageId::persistence).records);
    for (auto* socket : {&control, &records}) {
      *socket = zmq::socket_t(context, zmq::socket_type::push);
      socket->set(zmq::sockopt::sndhwm, 8);
    }
    control.connect(endpoint(transport, StageId::routing, Lane::control));
    records.connect(endpoint(transport, StageId::routing, Lane::records));
    REQUIRE(loop->open());
  }
  ~Fixture() { close(wake); }
  void push(zmq::socket_t& socket, const Message& message, std::uint64_t run) {
    REQUIRE(send_now(socket, to_message(encode(message, run))));
  }
  void pass(int times = 3) {
    const std::uint64_t one = 1;
    for (int i = 0; i < times; ++i) {
      REQUIRE(write(wake, &one, sizeof one) == sizeof one);  // else an idle pass waits for its next report
      REQUIRE(loop->pass(wake));
    }
  }
  void run(std::uint64_t run, std::uint64_t group) {
    push(control, Restored{group, 0}, run);
    pass();
    REQUIRE(loop->running());
    log.lines.clear();
  }
  std::optional<Decoded> next(zmq::socket_t& socket) {
    zmq::message_t message;
    if (!receive_now(socket, message)) return std::nullopt;
    auto decoded = decode(Frame::copy({message.data<std::byte>(), message.size()}));
    REQUIRE(decoded);
    return *std::move(decoded);
  }
  using Lines = std::vector<std::string>;

  Log log;
  zmq::context_t context;
  int wake;
  std::unique_ptr<StageLoop> loop;
  zmq::socket_t training, persistence, control, records;
};

}  // namespace

TEST_CASE("a stage joins, is given its state, and starts") {
  Fixture fixture;
  fixture.pass();
  const auto join = fixture.next(fixture.persistence);
  REQUIRE(join);
  CHECK(join->run == 0);
  CHECK(std::get<Join>(join->message).stage == "routing");
  CHECK(std::get<Join>(join->message).identity == "an identity");
  CHECK_FALSE(fixture.loop->running());
  fixture.push(fixture.control, Restore{"mixture", "m"}, 9);
  fixture.push(fixture.control, Restored{4, 1}, 9);
  fixture.push(fixture.control, Restore{"mixture", "m"}, 9);  // the answer to a second join
  fixture.push(fixture.control, Restored{4, 1}, 9);
  fixture.pass();
  CHECK(fixture.loop->running());
  CHECK(fixture.log.lines == Fixture::Lines{"mixture=m", "start 4"});
}

TEST_CASE("what a faster stage of the same run says before the state is there is not lost") {
  Fixture fixture;
  fixture.push(fixture.control, Ranking{3, {}}, 8);  // of another run
  fixture.push(fixture.control, Ranking{4, {}}, 9);
  fixture.push(fixture.records, Barrier{5, "encoding"}, 9);
  fixture.pass();
  CHECK(fixture.log.lines.empty());
  fixture.push(fixture.control, Restored{4, 0}, 9);
  fixture.pass();
  CHECK(fixture.log.lines == Fixture::Lines{"start 4", "ranking 4", "barrier 5"});
}

TEST_CASE("a stage starts only with all of its values") {
  Fixture fixture;
  fixture.push(fixture.control, Restored{4, 1}, 9);  // the value was lost on its way
  fixture.pass();
  CHECK_FALSE(fixture.loop->running());
  fixture.push(fixture.control, Restore{"mixture", "m"}, 9);
  fixture.push(fixture.control, Restored{4, 1}, 9);
  fixture.pass();
  CHECK(fixture.log.lines == Fixture::Lines{"mixture=m", "start 4"});
}

TEST_CASE("a frame that was lost or damaged between stages makes the pipeline start anew") {
  const auto from = static_cast<std::uint8_t>(StageId::encoding);
  const auto after = [&](std::vector<std::pair<Message, std::uint64_t>> frames) {
    Fixture fixture;
    fixture.run(9, 0);
    for (auto& [message, number] : frames)
      REQUIRE(send_now(fixture.records, to_message(encode(message, Tag{9, from, number}))));
    const std::uint64_t one = 1;
    Status last = Done{};
    for (int i = 0; i < 4 && last; ++i) {
      REQUIRE(write(fixture.wake, &one, sizeof one) == sizeof one);
      last = fixture.loop->pass(fixture.wake);
    }
    return last;
  };
  const Barrier barrier{1, "encoding"};
  CHECK(after({{barrier, 1}, {barrier, 2}, {Mark{}, 2}, {barrier, 3}}));
  for (const auto& lost :
       {after({{barrier, 1}, {barrier, 3}}), after({{barrier, 2}}), after({{barrier, 1}, {Mark{}, 2}})}) {
    REQUIRE_FALSE(lost);
    CHECK(lost.error().fault == Fault::again);
    CHECK(lost.error().message.find("encoding") != std::string::npos);
  }
  Fixture fixture;
  fixture.run(9, 0);
  fixture.records.send(zmq::buffer("no frame at all!", 16));
  Status status = Done{};
  for (int i = 0; i < 3 && status; ++i) status = fixture.loop->pass(fixture.wake);
  REQUIRE_FALSE(status);
  CHECK(status.error().fault == Fault::again);
}

TEST_CASE("frames of another run are dropped") {
  Fixture fixture;
  fixture.run(9, 0);
  fixture.push(fixture.records, Barrier{1, "encoding"}, 8);
  fixture.push(fixture.records, Barrier{1, "encoding"}, 9);
  fixture.pass(5);
  CHECK(fixture.log.lines == Fixture::Lines{"barrier 1"});
  const auto sent = fixture.next(fixture.training);
  REQUIRE(sent);
  CHECK(sent->run == 9);
  CHECK((sent->from == static_cast<std::uint8_t>(StageId::routing) && sent->number == 1));
}

TEST_CASE("records stay in their socket while the stage does not take them; control comes all the same") {
  Fixture fixture;
  fixture.run(9, 0);
  fixture.log.accepts = false;
  fixture.push(fixture.records, Barrier{1, "encoding"}, 9);
  fixture.push(fixture.control, Ranking{7, {}}, 9);
  fixture.pass();
  CHECK(fixture.log.lines == Fixture::Lines{"ranking 7"});
  fixture.log.accepts = true;
  fixture.pass();
  CHECK(fixture.log.lines == Fixture::Lines{"ranking 7", "barrier 1"});
}

TEST_CASE("work in hand comes before further records") {
  Fixture fixture;
  fixture.run(9, 0);
  fixture.log.work = 2;
  fixture.push(fixture.records, Barrier{1, "encoding"}, 9);
  fixture.pass();
  CHECK(fixture.log.lines == Fixture::Lines{"work", "work", "barrier 1"});
}

TEST_CASE("while an output is full, no more records are read, and none is lost") {
  Fixture fixture;
  fixture.run(9, 0);
  // The bounds of all sockets on the way add up to far less than these attempts.
  std::uint64_t sent = 0;
  for (int attempt = 0; attempt < 200; ++attempt) {
    if (fixture.records.get(zmq::sockopt::events) & ZMQ_POLLOUT) {
      fixture.push(fixture.records, Barrier{sent + 1, "encoding"}, 9);
      ++sent;
    }
    fixture.pass(1);
  }
  CHECK(sent < 100);
  CHECK(fixture.log.lines.size() < sent);
  std::uint64_t expected = 0;
  for (int quiet = 0; quiet < 10; ++quiet) {
    while (auto frame = fixture.next(fixture.training)) {
      CHECK(std::get<Barrier>(frame->message).group == ++expected);
      quiet = 0;
    }
    fixture.pass(1);
  }
  CHECK(expected == sent);
}

TEST_CASE("a receiver that has gone takes neither the stage with it nor what waits for the others") {
  Fixture fixture;
  fixture.run(9, 0);
  fixture.push(fixture.records, Barrier{1, "encoding"}, 9);
  fixture.pass();
  fixture.training.close();
  std::size_t pushed = 1;
  while (fixture.log.lines.size() == pushed && pushed < 1000) {  // libzmq learns of it a little later
    fixture.push(fixture.records, Barrier{++pushed, "encoding"}, 9);
    fixture.pass(2);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  CHECK(pushed < 1000);  // once something waits for it, no more is read
  fixture.push(fixture.control, Ranking{9, {}}, 9);
  fixture.pass();
  CHECK(fixture.log.lines.back() == "ranking 9");
}

TEST_CASE("a reset of this run ends the stage so that it starts anew; one of another run does not") {
  Fixture fixture;
  fixture.run(9, 0);
  fixture.push(fixture.control, Reset{"an old reason"}, 8);
  fixture.pass();
  fixture.push(fixture.control, Reset{"training was started again"}, 9);
  const std::uint64_t one = 1;
  REQUIRE(write(fixture.wake, &one, sizeof one) == sizeof one);
  const auto passed = fixture.loop->pass(fixture.wake);
  REQUIRE_FALSE(passed);
  CHECK(passed.error().fault == Fault::again);
  CHECK(passed.error().message == "routing starts anew: training was started again");
}
