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

/// Records off the back until they have so many tokens. Several are encoded at a time, which is faster; what is not
/// needed stays.
std::vector<EncodedRecord> encode(std::vector<Record>& records, std::uint64_t tokens, Encoder& encoder) {
  constexpr std::size_t together = 16;
  std::vector<EncodedRecord> taken;
  for (std::uint64_t have = 0; have < tokens && !records.empty();) {
    const auto count = static_cast<std::ptrdiff_t>(std::min(records.size(), together));
    for (Encoded& result : encoder.encode({records.rbegin(), records.rbegin() + count})) {
      if (have >= tokens) break;
      records.pop_back();
      if (auto* record = std::get_if<EncodedRecord>(&result)) {
        have += record->tokens.size();
        taken.push_back(std::move(*record));
      }
    }
  }
  return taken;
}

/// A file's records as the plan takes them, shuffled alike for all seeds.
Result<std::vector<Record>> deal_file(const StreamPlan& plan, const fs::path& file, std::uint32_t source) {
  auto records = read_records(file, source);
  if (!records) return records;
  if (plan.prompts == "learned")
    for (Record& record : *records) record.prompt_bytes = 0;
  std::mt19937_64 engine(source + 1);
  shuffle(*records, engine);
  return records;
}

/// As benchmarks come: train.jsonl is learned, test.jsonl held out.
Result<Domain> load_split(const StreamPlan& plan, const fs::path& folder, std::uint64_t tokens, Encoder& encoder) {
  auto training = deal_file(plan, folder / "train.jsonl", 0), held_out = deal_file(plan, folder / "test.jsonl", 0);
  if (!training) return training.error();
  if (!held_out) return held_out.error();
  return Domain{folder.filename().string(), encode(*training, tokens, encoder),
                encode(*held_out, plan.held_out_tokens, encoder)};
}

Result<Domain> load_domain(const StreamPlan& plan, const fs::path& folder, std::uint64_t tokens, Encoder& encoder) {
  if (plan.sources == "split") return load_split(plan, folder, tokens, encoder);
  auto files = files_of(folder);
  if (!files) return files.error();
  if (plan.sources == "first") files->resize(1);
  Domain domain{.name = folder.filename().string()};
  for (std::size_t i = 0; i < files->size(); ++i) {
    auto records = deal_file(plan, (*files)[i], static_cast<std::uint32_t>(i));
    if (!records) return records.error();
    const auto of_all = [&](std::uint64_t sum) { return plan.sources == "unseen" ? sum : sum / files->size() + 1; };
    for (auto& record : encode(*records, of_all(plan.held_out_tokens), encoder))
      domain.held_out.push_back(std::move(record));
    for (auto& record : encode(*records, of_all(tokens), encoder)) domain.training.push_back(std::move(record));
  }
  return domain;
}

/// Tokens of a domain in blocks, and shuffled.
struct Share {
  std::uint64_t blocks = 0, shuffled = 0;
};

Share share_of(const StreamPlan& plan, std::size_t domain) {
  const std::uint64_t tokens = plan.tokens_per_domain;
  Share share{plan.shape == "shuffled" ? 0 : tokens, plan.shape == "blocks" ? 0 : tokens};
  if (plan.shares.empty()) return share;
  const double sum = std::accumulate(plan.shares.begin(), plan.shares.end(), 0.0);
  const auto total = static_cast<double>(share.shuffled * plan.domains.size());
  share.shuffled = static_cast<std::uint64_t>(total * plan.shares[domain] / sum);
  return share;
}

/// Deals a domain's records of one seed, each once.
class Dealer {
 public:
  Dealer(const StreamPlan& plan, const Domain& domain, std::uint32_t index, std::mt19937_64& engine)
      : domain_(domain), index_(index), order_(domain.training.size()) {
    std::iota(order_.begin(), order_.end(), 0);
    shuffle(order_, engine);
    if (plan.sources == "unseen") {
      const std::uint32_t learned = domain.training[engine() % domain.training.size()].origin.source;
      std::erase_if(order_, [&](std::uint32_t i) { return domain.training[i].origin.source != learned; });
    }
    if (plan.sources != "in turn") return;
    std::stable_sort(order_.begin(), order_.end(), [&](std::uint32_t a, std::uint32_t b) {
      return domain.training[a].origin.source < domain.training[b].origin.source;
    });
  }
  /// Errors: bad_config, when the domain has no more.
  Result<std::vector<Item>> deal(std::uint64_t tokens) {
    std::vector<Item> items;
    std::uint64_t have = 0;
    for (; have < tokens && next_ < order_.size(); ++next_) {
      have += domain_.training[order_[next_]].tokens.size();
      items.push_back({index_, order_[next_]});
    }
    if (have >= tokens) return items;
    return Error{Fault::bad_config, "the domain " + domain_.name + " has " + std::to_string(have) +
                                        " tokens to learn from where the plan wants " + std::to_string(tokens)};
  }

 private:
  const Domain& domain_;
  std::uint32_t index_;
  std::vector<std::uint32_t> order_;
  std::size_t next_ = 0;
};

void append_blocks(std::vector<std::vector<Item>> dealt, const std::vector<std::uint32_t>& order, std::uint64_t rounds,
                   std::vector<StreamSegment>& segments) {
  for (std::uint64_t round = 0; round < rounds; ++round)
    for (const std::uint32_t d : order) {
      const auto at = [&](std::uint64_t r) {
        return dealt[d].begin() + static_cast<std::ptrdiff_t>(r * dealt[d].size() / rounds);
      };
      segments.push_back({d, {at(round), at(round + 1)}});
    }
}

/// In as many segments as there are domains, for as many measurements.
void append_shuffled(std::vector<Item> all, std::size_t count, std::mt19937_64& engine,
                     std::vector<StreamSegment>& segments) {
  shuffle(all, engine);
  const std::size_t first = segments.size();
  segments.resize(first + count);
  for (std::size_t i = 0; i < all.size(); ++i) segments[first + i * count / all.size()].items.push_back(all[i]);
}

}  // namespace

Result<std::vector<Domain>> load_domains(const StreamPlan& plan, const std::string& directory, Encoder& encoder) {
  std::vector<Domain> domains;
  for (std::size_t i = 0; i < plan.domains.size(); ++i) {
    const Share share = share_of(plan, i);
    const std::uint64_t tokens = spare * (share.blocks + share.shuffled);
    auto domain = load_domain(plan, fs::path(directory) / plan.domains[i], tokens, encoder);
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
  std::vector<std::vector<Item>> blocks(domains.size());
  std::vector<Item> shuffled;
  for (std::uint32_t d = 0; d < domains.size(); ++d) {
    Dealer dealer(plan, domains[d], d, engine);
    const Share share = share_of(plan, d);
    auto block = dealer.deal(share.blocks);
    if (!block) return block.error();
    auto rest = dealer.deal(share.shuffled);
    if (!rest) return rest.error();
    blocks[d] = *std::move(block);
    shuffled.insert(shuffled.end(), rest->begin(), rest->end());
  }
  std::vector<StreamSegment> segments;
  if (plan.shape != "shuffled") append_blocks(std::move(blocks), order, plan.rounds, segments);
  if (plan.shape != "blocks") append_shuffled(std::move(shuffled), domains.size(), engine, segments);
  return segments;
}

}  // namespace kpool
