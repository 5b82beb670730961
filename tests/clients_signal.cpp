#include <catch2/catch.hpp>

#include <signal.h>
#include <sys/time.h>

#include <csignal>

#include "clients/gateway_client.hpp"
#include "tests/clients_fake_daemon.hpp"

using namespace kpool;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

TEST_CASE("a signal interrupts a wait and is no error") {
  GatewayClientOptions options;
  options.keys = kpool::testing::new_key_pair();
  options.server_public_key = options.keys.public_key;
  options.endpoint = "ipc:///tmp/kpool_no_such_daemon";
  auto client = GatewayClient::open(options, nullptr);
  REQUIRE(client);
  static volatile std::sig_atomic_t signals = 0;
  struct sigaction action = {}, before = {};
  action.sa_handler = [](int) { signals = signals + 1; };
  REQUIRE(sigaction(SIGALRM, &action, &before) == 0);
  const itimerval every_5_ms = {{0, 5000}, {0, 5000}}, never = {};
  REQUIRE(setitimer(ITIMER_REAL, &every_5_ms, nullptr) == 0);
  const auto end = Clock::now() + 20s;
  Status status = Done{};
  while (signals < 5 && status && Clock::now() < end) status = (*client)->poll(100ms);
  setitimer(ITIMER_REAL, &never, nullptr);
  sigaction(SIGALRM, &before, nullptr);
  CHECK(status);
  CHECK(signals >= 5);
}
