#include "apps/kpool_eval_domains.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <random>

#include "apps/kpoolctl_records.hpp"

namespace kpool {
namespace {

namespace fs = std::filesystem;

// Encoded beyond what the plan streams, so that seeds differ in more than their order.
constexpr std::uint64_t spare = 2;
constexpr std::size_t record_bytes_max = 4096;

/// Shuffles alike on every platform, which std::shuffle need not.
template <class T>
void shuffle(std::vector<T>& values, std::mt19937_64& engine) {
  for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[engine() % i]);
}

Result<std::vector<fs::path>> files_of(const fs::path& folder) {
  std::error_code failure;
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder, failure))
    if (entry.path().extension() == ".jsonl") files.push_back(entry.path());
  if (files.empty()) return Error{Fault::missing, folder.string() + " holds no *.jsonl files"};
  std::sort(files.begin(), files.end());
  return files;
}

Result<std::vector<Record>> read_records(const fs::path& file, std::uint32_t source) {
  std::ifstream in(file);
  if (!in) return Error{Fault::missing, file.string() + " cannot be read"};
  std::vector<Record> records;
  std::uint64_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    auto parsed = parse_record(line);
    if (!parsed)
      return Error{parsed.error().fault, file.string() + ":" + std::to_string(number) + ": " + parsed.error().message};
    if (parsed->record.text.size() > record_bytes_max) continue;
    parsed->record.origin = {source, number};
    records.push_back(std::move(parsed->record));
  }
  return records;
}

/// Records off the back until they have so many tokens.
std::vector<EncodedRecord> encode(std::vector<Record>& records, std::uint64_t tokens, Encoder& encoder) {
  std::vector<EncodedRecord> taken;
  for (std::uint64_t have = 0; have < tokens && !records.empty();) {
    std::vector<Record> one;
    one.push_back(std::move(records.back()));
    records.pop_back();
    for (Encoded& result : encoder.encode(std::move(one)))
      if (auto* record = std::get_if<EncodedRecord>(&result)) {
        have += record->tokens.size();
        taken.push_back(std::move(*record));
      }
  }
  return taken;
}

Result<Domain> load_domain(const StreamPlan& plan, const fs::path& folder, std::uint64_t tokens, Encoder& encoder) {
  auto files = files_of(folder);
  if (!files) return files.error();
  if (plan.sources == "first") files->resize(1);
  Domain domain{.name = folder.filename().string()};
  for (std::size_t i = 0; i < files->size(); ++i) {
    auto records = read_records((*files)[i], static_cast<std::uint32_t>(i));
    if (!records) return records.error();
    if (plan.prompts == "learned")
      for (Record& record : *records) record.prompt_bytes = 0;
    std::mt19937_64 engine(i + 1);
    shuffle(*records, engine);
    const auto of_all = [&](std::uint64_t sum) { return sum / files->size() + 1; };
    for (auto& record : encode(*records, of_all(plan.held_out_tokens), encoder))
      domain.held_out.push_back(std::move(record));
    for (auto& record : encode(*records, of_all(tokens), encoder)) domain.training.push_back(std::move(record));
  }
  return domain;
}

std::uint64_t tokens_of(const StreamPlan& plan, std::size_t domain) {
  if (plan.shares.empty()) return plan.tokens_per_domain;
  const double sum = std::accumulate(plan.shares.begin(), plan.shares.end(), 0.0);
  const double total = static_cast<double>(plan.tokens_per_domain * plan.domains.size());
  return static_cast<std::uint64_t>(total * plan.shares[domain] / sum);
}

/// A domain's records of this seed, cut into its visits.
Result<std::vector<std::vector<Item>>> visits_of(const StreamPlan& plan, const Domain& domain, std::uint32_t index,
                                                 std::mt19937_64& engine) {
  std::vector<std::uint32_t> order(domain.training.size());
  std::iota(order.begin(), order.end(), 0);
  shuffle(order, engine);
  const std::uint64_t tokens = tokens_of(plan, index);
  std::uint64_t have = 0;
  std::size_t count = 0;
  for (; count < order.size() && have < tokens; ++count) have += domain.training[order[count]].tokens.size();
  if (have < tokens)
    return Error{Fault::bad_config, "the domain " + domain.name + " has " + std::to_string(have) +
                                        " tokens to learn from, the plan wants " + std::to_string(tokens)};
  order.resize(count);
  if (plan.sources == "in turn")
    std::stable_sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
      return domain.training[a].origin.source < domain.training[b].origin.source;
    });
  std::vector<std::vector<Item>> visits(plan.shape == "blocks" ? plan.rounds : 1);
  for (std::size_t i = 0; i < count; ++i) visits[i * visits.size() / count].push_back({index, order[i]});
  return visits;
}

}  // namespace

Result<std::vector<Domain>> load_domains(const StreamPlan& plan, const std::string& directory, Encoder& encoder) {
  std::vector<Domain> domains;
  for (std::size_t i = 0; i < plan.domains.size(); ++i) {
    auto domain = load_domain(plan, fs::path(directory) / plan.domains[i], spare * tokens_of(plan, i), encoder);
    if (!domain) return domain.error();
    domains.push_back(*std::move(domain));
  }
  return domains;
}

Result<std::vector<StreamSegment>> make_stream(const StreamPlan& plan, const std::vector<Domain>& domains,
                                         std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  std::vector<std::uint32_t> order(domains.size());
  std::iota(order.begin(), order.end(), 0);
  if (plan.order == "seed") shuffle(order, engine);
  std::vector<std::vector<std::vector<Item>>> visits(domains.size());
  for (std::uint32_t d = 0; d < domains.size(); ++d) {
    auto found = visits_of(plan, domains[d], d, engine);
    if (!found) return found.error();
    visits[d] = *std::move(found);
  }
  std::vector<StreamSegment> segments;
  if (plan.shape == "blocks") {
    for (std::size_t round = 0; round < plan.rounds; ++round)
      for (const std::uint32_t d : order) segments.push_back({d, std::move(visits[d][round])});
    return segments;
  }
  std::vector<Item> all;
  for (auto& each : visits) all.insert(all.end(), each[0].begin(), each[0].end());
  shuffle(all, engine);
  segments.resize(domains.size());
  for (std::size_t i = 0; i < all.size(); ++i) segments[i * segments.size() / all.size()].items.push_back(all[i]);
  return segments;
}

}  // namespace kpool
