#include "messages/admin.hpp"

#include <catch2/catch.hpp>

#include "tests/messages_support.hpp"

using namespace kpool;

TEST_CASE("every admin message survives a round trip") {
  auto status = admin::decode(admin::encode(admin::StatusRequest{}));
  REQUIRE(status);
  CHECK(std::holds_alternative<admin::StatusRequest>(*status));
  auto report = admin::decode(admin::encode(admin::StatusReport{R"({"slots":[]})"}));
  REQUIRE(report);
  CHECK(std::get<admin::StatusReport>(*report).json == R"({"slots":[]})");
  auto request = admin::decode(admin::encode(admin::SnapshotRequest{"/tmp/x"}));
  REQUIRE(request);
  CHECK(std::get<admin::SnapshotRequest>(*request).directory == "/tmp/x");
  auto reply = admin::decode(admin::encode(admin::Reply{""}));
  REQUIRE(reply);
  CHECK(std::get<admin::Reply>(*reply).error.empty());
  auto change = admin::decode(admin::encode(admin::ChangeRequest{3, SlotChange::release}));
  REQUIRE(change);
  CHECK((std::get<admin::ChangeRequest>(*change).slot == 3 &&
         std::get<admin::ChangeRequest>(*change).what == SlotChange::release));
  CHECK_FALSE(admin::decode(admin::encode(admin::ChangeRequest{3, static_cast<SlotChange>(slot_change_max + 1)})));
}

TEST_CASE("hostile admin frames are refused, not obeyed") {
  CHECK(test::torment(admin::encode(admin::SnapshotRequest{"/a/directory/name"}), admin::decode) > 100);
}
