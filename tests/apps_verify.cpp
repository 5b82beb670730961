#include "apps/kpoolctl_verify.hpp"

#include <sstream>

#include "apps/kpoolctl_pool.hpp"
#include "tests/apps_pool.hpp"

using namespace kpool;
using kpool::testing::TinyPool;

TEST_CASE("a pool as the stages leave it verifies, with a digest of every value and of all") {
  TinyPool pool;
  std::ostringstream text, json;
  testing::must(verify_store(pool.path, false, text));
  CHECK(text.str().find("all whole") != std::string::npos);
  testing::must(verify_store(pool.path, true, json));
  const auto report = nlohmann::json::parse(json.str());
  CHECK(report["group"] == "3");
  CHECK(report["problems"].empty());
  CHECK(report["values"].size() == pool.values.size());
  CHECK(report["values"]["slot/1"]["bytes"] == pool.values["slot/1"].size());
  // sha256 of the one character 3
  CHECK(report["values"]["group"]["sha256"] == "4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce");
}

TEST_CASE("the digest of the state covers what the pool is, and nothing else") {
  TinyPool pool;
  const std::string before = verify_values(pool.values).state_sha256;
  for (const char* key : {"group", "mixture", "routing", "fragility", "regret", "slot/0", "source/0"}) {
    Values changed = pool.values;
    changed[key].back() ^= 1;
    CHECK(verify_values(changed).state_sha256 != before);
  }
  Values other = pool.values;
  other.erase("refusals/3");
  other["identity/training"] = "another";
  CHECK(verify_values(other).state_sha256 == before);
  Values moved = pool.values;  // the same bytes under another key are another state
  moved["slot/2"] = moved["slot/1"];
  moved.erase("slot/1");
  CHECK(verify_values(moved).state_sha256 != before);
}

TEST_CASE("every value that makes no sense is named") {
  TinyPool pool;
  const auto problems = [&](const std::string& key, const std::string& value) {
    Values changed = pool.values;
    changed[key] = value;
    const auto found = verify_values(changed).problems;
    return found.size() == 1 ? found[0] : std::to_string(found.size()) + " problems";
  };
  CHECK(problems("group", "three") == "group is no number");
  CHECK(problems("source/0", "{}") == "source/0 does not hold key, epoch and watermark");
  CHECK(problems("source/x", pool.values["source/0"]) == "source/x has no number in its key");
  CHECK(problems("refusals/3", "[[1]]").starts_with("refusals/3 is no list"));
  CHECK(problems("routing", "[]").starts_with("routing is no table"));
  CHECK(problems("mixture", "x").starts_with("mixture cannot be read"));
  CHECK(problems("fragility", "x").starts_with("fragility cannot be read"));
  CHECK(problems("regret", "x").starts_with("regret cannot be read"));
  CHECK(problems("slot/0", "x").starts_with("slot/0 is no safetensors file"));
  CHECK(problems("slot/0", pool.values["slot/1"]) == "slot/0 is of generation 2, routing has 1");
  Values beyond = pool.values;
  beyond["slot/9"] = beyond["slot/0"];
  CHECK(verify_values(beyond).problems == std::vector<std::string>{"slot/9 is beyond the 5 slots of routing"});
  CHECK(problems("identity/training", "") == "identity/training is empty");
  CHECK(problems("keep/0", "glued") == "keep/0 is neither pinned nor held");
  CHECK(problems("keep/", "held") == "keep/ has no number in its key");
  Values part = pool.values;
  part.erase("mixture");
  CHECK(verify_values(part).problems == std::vector<std::string>{"mixture is absent"});
  CHECK(verify_values({}).problems.empty());  // a new store
  CHECK(verify_values({{"keep/0", "pinned held"}}).problems.empty());  // pinned before the first commit
}

TEST_CASE("a slot with a number that is not finite is not whole") {
  TinyPool pool;
  std::string blob = pool.values["slot/0"];
  blob.replace(blob.size() - 4, 4, "\xff\xff\xff\xff");
  const auto read = read_slot(blob);
  REQUIRE_FALSE(read);
  CHECK(read.error().message.find("not finite") != std::string::npos);
}

TEST_CASE("verify of a damaged pool names its problem and fails; of none, says so") {
  TinyPool pool;
  testing::must(testing::must(open_store("rocksdb", pool.path))->commit({{"group", "three"}}, {}));
  std::ostringstream out;
  const auto status = verify_store(pool.path, true, out);
  REQUIRE_FALSE(status);
  CHECK(status.error().fault == Fault::bad_input);
  CHECK(status.error().message == pool.path + ": group is no number");
  CHECK(verify_store(pool.directory.file("none"), true, out).error().fault == Fault::missing);
}
