// kpool-eval: domains that come with a split of their own.
#include <catch2/catch.hpp>

#include <algorithm>
#include <fstream>

#include <nlohmann/json.hpp>

#include "apps/kpool_eval_domains.hpp"
#include "tests/temporary_directory.hpp"

using namespace kpool;

namespace {

/// Tokens are bytes.
class ByteEncoder final : public Encoder {
 public:
  std::vector<Encoded> encode(std::vector<Record> records) override {
    std::vector<Encoded> all;
    for (const Record& record : records)
      all.push_back(EncodedRecord{record.origin, record.prompt_bytes, {record.text.begin(), record.text.end()}, {0}});
    return all;
  }
  std::size_t width() const override { return 1; }
};

/// Forty records of ten letters each, the first six a prompt.
void write_file(const std::string& path, char letter) {
  std::ofstream out(path);
  for (int i = 0; i < 40; ++i)
    out << nlohmann::json{{"prompt", std::string(6, letter)}, {"text", std::string(10, letter)}}.dump() << "\n";
}

struct Fixture {
  Fixture() {
    std::filesystem::create_directory(directory.file("task"));
    write_file(directory.file("task/train.jsonl"), 'a');
    write_file(directory.file("task/test.jsonl"), 'b');
    write_file(directory.file("task/other.jsonl"), 'c');
  }
  Result<std::vector<Domain>> load(const StreamPlan& plan) { return load_domains(plan, directory.path(), encoder); }
  kpool::testing::TemporaryDirectory directory;
  ByteEncoder encoder;
};

bool all_of(const std::vector<EncodedRecord>& records, char letter) {
  return std::all_of(records.begin(), records.end(), [letter](const EncodedRecord& record) {
    return record.tokens == std::vector<std::int32_t>(10, letter) && record.prompt_tokens == 6;
  });
}

}  // namespace

TEST_CASE("a split is learned from train.jsonl alone and held out from test.jsonl alone") {
  Fixture fixture;
  const StreamPlan plan{.domains = {"task"}, .sources = "split", .tokens_per_domain = 40, .held_out_tokens = 50};
  const auto domains = fixture.load(plan);
  REQUIRE(domains);
  const Domain& task = domains->front();
  CHECK(task.name == "task");
  CHECK(all_of(task.training, 'a'));
  CHECK(all_of(task.held_out, 'b'));
  CHECK(task.training.size() == 8);  // twice what the plan streams, so that seeds differ
  CHECK(task.held_out.size() == 5);
  CHECK(make_stream(plan, *domains, 1));
}

TEST_CASE("a domain without its half of the split is named") {
  Fixture fixture;
  std::filesystem::remove(fixture.directory.file("task/test.jsonl"));
  const auto domains = fixture.load({.domains = {"task"}, .sources = "split"});
  REQUIRE_FALSE(domains);
  CHECK(domains.error().message == fixture.directory.file("task/test.jsonl") + " cannot be read");
}
