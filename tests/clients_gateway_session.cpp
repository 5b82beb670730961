#include "clients/gateway_session.hpp"

#include <catch2/catch.hpp>

using namespace kpool;
using namespace kpool::gateway;
using namespace std::chrono_literals;

namespace {

// A session, a clock that the test turns, and a look at what the session wants to send.
struct Bench {
  GatewayClientOptions options;
  std::vector<std::uint64_t> refused;
  std::optional<GatewaySession> session;
  GatewaySession::Time now{};

  explicit Bench(std::uint64_t last_acked = 0) {
    options.epoch = 3;
    options.last_acked = last_acked;
    session.emplace(options, [this](auto seq, auto) { refused.push_back(seq); });
  }
  std::optional<Message> next() {
    auto frame = session->next_frame(now);
    if (!frame) return std::nullopt;
    auto message = decode(*frame);
    REQUIRE(message);
    return std::move(*message);
  }
  template <class T>
  T expect() {
    auto message = next();
    REQUIRE(message);
    REQUIRE(std::holds_alternative<T>(*message));
    return std::get<T>(*message);
  }
  void hear(Message message) { session->on_message(std::move(message), now); }
  Welcome welcome(std::uint64_t watermark) const { return {protocol_version, 3, watermark, 1000, 100, 500, {}}; }
  void connect(std::uint64_t watermark = 0) {
    session->on_connected(now);
    expect<Hello>();
    hear(welcome(watermark));
  }
  void offer(std::uint64_t from, std::uint64_t to, std::size_t bytes = 10) {
    for (auto seq = from; seq <= to; ++seq) REQUIRE(session->offer(seq, {std::string(bytes, 'x'), 0}));
  }
};

}  // namespace

TEST_CASE("nothing but a hello is said before the welcome") {
  Bench bench(7);
  bench.offer(8, 9);
  CHECK_FALSE(bench.next());
  bench.session->on_connected(bench.now);
  const auto hello = bench.expect<Hello>();
  CHECK((hello.epoch == 3 && hello.last_acked == 7 && hello.first_unacked == 8 && hello.version == protocol_version));
  CHECK_FALSE(bench.next());
  bench.hear(bench.welcome(7));
  const auto data = bench.expect<Data>();
  CHECK((data.first_seq == 8 && data.records.size() == 2 && data.epoch == 3));
}

TEST_CASE("a batch ends at its limits of records and bytes") {
  Bench bench;
  bench.options.hold_bytes_max = 1u << 30;
  bench.session.emplace(bench.options, nullptr);
  bench.session->on_connected(bench.now);
  bench.expect<Hello>();
  auto welcome = bench.welcome(0);
  welcome.credit_bytes = 1u << 30;
  welcome.credit_records = 1u << 20;
  welcome.record_bytes_max = record_bytes_limit;
  bench.hear(welcome);
  bench.offer(1, 1500);
  CHECK(bench.expect<Data>().records.size() == data_records_max);
  CHECK(bench.expect<Data>().records.size() == 1500 - data_records_max);
  bench.offer(1501, 1504, 400000);
  CHECK(bench.expect<Data>().records.size() == 2);
  CHECK(bench.expect<Data>().records.size() == 2);
  bench.offer(1505, 1505, record_bytes_limit);
  CHECK(bench.expect<Data>().records[0].text.size() == record_bytes_limit);
}

TEST_CASE("the credit of records and of bytes bounds what is in flight") {
  Bench bench;
  bench.connect();
  bench.offer(1, 150, 1);
  CHECK(bench.expect<Data>().records.size() == 100);
  CHECK_FALSE(bench.next());
  bench.hear(Ack{3, 40, {}, 1000, 100});
  CHECK(bench.expect<Data>().first_seq == 101);
  bench.hear(Ack{3, 150, {}, 25, 100});
  bench.offer(151, 160);
  CHECK(bench.expect<Data>().records.size() == 2);
  bench.hear(Ack{3, 152, {}, 5, 100});  // less credit than one record: it still goes, alone
  CHECK(bench.expect<Data>().records.size() == 1);
  CHECK_FALSE(bench.next());
}

TEST_CASE("a gap leads to a new hello and a resend from the watermark") {
  Bench bench;
  bench.connect();
  bench.offer(1, 10);
  bench.expect<Data>();
  bench.hear(Refuse{RefuseReason::gap, "a gap", 1, false});
  bench.expect<Hello>();
  bench.hear(Refuse{RefuseReason::gap, "a gap", 1, false});  // of another frame before the hello
  CHECK_FALSE(bench.next());
  bench.hear(bench.welcome(4));
  const auto data = bench.expect<Data>();
  CHECK((data.first_seq == 5 && data.records.size() == 6));
  CHECK(bench.session->progress().resent == 6);
}

TEST_CASE("a daemon that is not ready is asked again after a pause") {
  for (const auto reason :
       {RefuseReason::starting, RefuseReason::stopping, RefuseReason::no_space, RefuseReason::credit}) {
    Bench bench;
    bench.session->on_connected(bench.now);
    bench.expect<Hello>();
    bench.hear(Refuse{reason, "not now", 0, false});
    CHECK_FALSE(bench.next());
    CHECK(bench.session->complaint() == "not now");
    bench.now += 1s;
    bench.expect<Hello>();
    bench.hear(bench.welcome(0));
    CHECK(bench.session->complaint().empty());
    CHECK_FALSE(bench.session->error());
  }
}

TEST_CASE("refusals for good end the session with one sentence") {
  const std::pair<RefuseReason, Fault> cases[] = {{RefuseReason::version, Fault::bad_input},
                                                  {RefuseReason::stale_epoch, Fault::mismatch},
                                                  {RefuseReason::regression, Fault::mismatch}};
  for (const auto& [reason, fault] : cases) {
    Bench bench;
    bench.session->on_connected(bench.now);
    bench.expect<Hello>();
    bench.hear(Refuse{reason, "the cause", 0, true});
    REQUIRE(bench.session->error());
    CHECK(bench.session->error()->fault == fault);
    CHECK(bench.session->error()->message == "the daemon refuses this gateway for good: the cause");
    CHECK_FALSE(bench.next());
  }
}

TEST_CASE("a welcome below what was acknowledged is a regression") {
  Bench bench(10);
  bench.connect(9);
  REQUIRE(bench.session->error());
  CHECK(bench.session->error()->fault == Fault::mismatch);
  CHECK(bench.session->error()->message.find("acknowledged record 10 and now knows only 9") != std::string::npos);
}

TEST_CASE("a welcome of another version ends the session") {
  Bench bench;
  bench.session->on_connected(bench.now);
  bench.expect<Hello>();
  auto welcome = bench.welcome(0);
  welcome.version = 2;
  bench.hear(welcome);
  REQUIRE(bench.session->error());
  CHECK(bench.session->error()->fault == Fault::bad_input);
}

TEST_CASE("acknowledgements of another epoch or before the welcome change nothing") {
  Bench bench;
  bench.offer(1, 5);
  bench.session->on_connected(bench.now);
  bench.hear(Ack{3, 5, {}, 0, 0});
  CHECK(bench.session->acked_up_to() == 0);
  bench.expect<Hello>();
  bench.hear(bench.welcome(0));
  bench.hear(Ack{2, 5, {}, 1000, 100});
  CHECK(bench.session->acked_up_to() == 0);
  bench.hear(Ack{3, 5, {}, 1000, 100});
  CHECK(bench.session->idle());
}

TEST_CASE("an acknowledgement that comes again, or goes back, changes nothing") {
  Bench bench;
  bench.connect();
  bench.offer(1, 5);
  bench.expect<Data>();
  bench.hear(Ack{3, 4, {{2, Refusal::empty}}, 1000, 100});
  bench.hear(Ack{3, 4, {{2, Refusal::empty}}, 1000, 100});
  bench.hear(Ack{3, 1, {}, 1000, 100});
  CHECK(bench.session->acked_up_to() == 4);
  CHECK(bench.refused == std::vector<std::uint64_t>{2});
  CHECK(bench.session->progress().acknowledged == 3);
}

TEST_CASE("records that the daemon has from an earlier life count as they fared") {
  Bench bench;
  bench.session->on_connected(bench.now);
  bench.expect<Hello>();
  auto welcome = bench.welcome(5);
  welcome.refused = {{2, Refusal::empty}, {4, Refusal::numeric}};
  bench.hear(welcome);
  CHECK(bench.refused == std::vector<std::uint64_t>{2, 4});
  bench.offer(1, 6);
  const auto progress = bench.session->progress();
  CHECK((progress.offered == 6 && progress.acknowledged == 3 && progress.refused == 2));
  CHECK(bench.expect<Data>().first_seq == 6);
}

TEST_CASE("silence is first asked about, then given up") {
  Bench bench;
  bench.connect();
  CHECK_FALSE(bench.next());
  bench.now += bench.options.silence / 2;
  bench.expect<Ping>();
  CHECK_FALSE(bench.next());
  CHECK_FALSE(bench.session->is_silent(bench.now));
  bench.now += bench.options.silence / 2;
  bench.expect<Ping>();  // asked again, and the wait goes on
  bench.now += bench.options.silence / 2 + 1ms;
  CHECK(bench.session->is_silent(bench.now));
  bench.hear(Ack{3, 0, {}, 1000, 100});
  CHECK_FALSE(bench.session->is_silent(bench.now));
}

TEST_CASE("a flush goes out once, behind the last record that was offered") {
  Bench bench;
  bench.connect();
  bench.offer(1, 150, 1);
  bench.session->flush();
  bench.expect<Data>();
  CHECK_FALSE(bench.next());  // 50 records wait for credit
  bench.hear(Ack{3, 100, {}, 1000, 100});
  bench.expect<Data>();
  CHECK(bench.expect<Flush>().up_to == 150);
  CHECK_FALSE(bench.next());
  bench.session->flush();
  CHECK_FALSE(bench.next());
  bench.session->on_disconnected();
  bench.connect(100);
  bench.expect<Data>();
  CHECK(bench.expect<Flush>().up_to == 150);
}
