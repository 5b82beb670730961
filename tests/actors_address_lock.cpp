// Who listens on a Unix socket keeps its path.
#include <catch2/catch.hpp>

#include "actors/address_lock.hpp"
#include "tests/temporary_directory.hpp"

using namespace kpool;

TEST_CASE("an address is locked once, until its holder is gone") {
  const testing::TemporaryDirectory directory;
  const std::string address = "ipc://" + directory.path() + "/admin.sock";
  {
    auto first = AddressLock::take(address);
    REQUIRE(first);
    auto moved = *std::move(first);
    const auto second = AddressLock::take(address);
    REQUIRE_FALSE(second);
    CHECK(second.error().fault == Fault::unavailable);
    CHECK(second.error().message.find(address) != std::string::npos);
  }
  CHECK(AddressLock::take(address));
  CHECK(AddressLock::take("tcp://127.0.0.1:1"));
  const auto nowhere = AddressLock::take("ipc:///no/such/directory/x");
  REQUIRE_FALSE(nowhere);
  CHECK(nowhere.error().message.find("/no/such/directory/x.lock") != std::string::npos);
}
