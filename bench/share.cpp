// bench_share MODEL.gguf [ROUNDS THREADS LAYERS [FILE.jsonl ...]] [--json FILE]
// What it saves that the layers of the encoder base:13 run once for routing and training, where the adapter has the top
// LAYERS (17) layers alone: encoder and learner on the same records in groups as the daemon's, in turns, with the
// adapter on all layers, on the top ones, and on these with what the encoder computed. Records of 64, 128 and 512
// tokens, and where JSON Lines files are given (field "text") the first records of those as they are. One JSON line
// each: milliseconds per 1,000 tokens as medians over the rounds, the ratios as medians of those within a round, and
// the mean loss of the first pass.
#include "bench/records.hpp"

using namespace kpool;

namespace {

constexpr std::size_t group_bytes = 16384;

struct Way {
  std::unique_ptr<Encoder> encoder;
  std::unique_ptr<Learner> learner;
  std::vector<double> encoding = {}, training = {};  ///< seconds of each pass
  std::vector<double> losses = {};                   ///< mean nats per token of each pass

  /// One pass over the records, group by group.
  void pass(const std::vector<std::vector<std::string>>& groups) {
    double encode_s = 0, train_s = 0, nats = 0, tokens = 0;
    const auto count = [&](const std::vector<StepReport>& reports) {
      for (const StepReport& report : reports) nats += report.loss * report.tokens, tokens += report.tokens;
    };
    for (const auto& texts : groups) {
      std::vector<EncodedRecord> encoded;
      encoder->begin_group();
      encode_s += seconds([&] { encoded = encode(*encoder, texts); });
      train_s += seconds([&] {
        for (EncodedRecord& record : encoded)
          count(learner->learn(0, {record.origin, 0, std::move(record.tokens), std::move(record.hidden)}));
        count(learner->flush());
      });
    }
    encoding.push_back(encode_s);
    training.push_back(train_s);
    losses.push_back(nats / tokens);
  }
  double total(std::size_t round) const { return encoding[round] + training[round]; }
};

std::vector<Way> ways(const std::shared_ptr<const Base>& base, std::uint32_t threads, std::uint32_t layers) {
  EncoderOptions options;
  options.threads = threads;
  std::vector<Way> all;
  all.push_back({value_or_exit(make_encoder(options, base)), one_slot(base, threads)});
  all.push_back({value_or_exit(make_encoder(options, base)), one_slot(base, threads, layers)});
  options.hidden_tokens = tokens_per_step;
  options.hidden_tokens_per_group = group_bytes / 4;
  all.push_back({value_or_exit(make_encoder(options, base)), one_slot(base, threads, layers)});
  return all;
}

void measure(const std::string& name, const std::vector<std::string>& texts, const Tokenizer& tokenizer,
             std::vector<Way> ways, std::uint32_t layers, int rounds, Results& results) {
  std::vector<std::vector<std::string>> groups(1);
  std::size_t bytes = 0, tokens = 0;
  for (const std::string& text : texts) {
    if (bytes > 0 && bytes + text.size() > group_bytes) groups.emplace_back(), bytes = 0;
    groups.back().push_back(text);
    bytes += text.size();
    tokens += tokenizer.encode(text).size();
  }
  for (int round = 0; round <= rounds; ++round)  // the first warms up
    for (Way& way : ways) way.pass(groups);
  const auto per_thousand = [&](std::span<const double> seconds) {
    std::vector<double> ms;
    for (const double each : seconds.subspan(1)) ms.push_back(1e6 * each / static_cast<double>(tokens));
    return rounded(median(std::move(ms)), 2);
  };
  const auto ratio = [&](const Way& way, const Way& to) {
    std::vector<double> ratios;
    for (std::size_t i = 1; i < way.encoding.size(); ++i) ratios.push_back(way.total(i) / to.total(i));
    return rounded(median(std::move(ratios)), 4);
  };
  constexpr const char* names[] = {"all layers", "top layers", "top layers, shared"};
  for (std::size_t i = 0; i < ways.size(); ++i)
    results.add({{"records", name}, {"tokens_per_record", rounded(double(tokens) / double(texts.size()), 1)},
                 {"tokens", tokens}, {"rounds", rounds}, {"way", names[i]}, {"layers", i == 0 ? 0 : layers},
                 {"encode_ms", per_thousand(ways[i].encoding)}, {"train_ms", per_thousand(ways[i].training)},
                 {"ratio_to_all", ratio(ways[i], ways[0])}, {"ratio_to_top", ratio(ways[i], ways[1])},
                 {"loss", rounded(ways[i].losses.front(), 5)}});
}

}  // namespace

int main(int count, char** arguments) {
  Results results(count, arguments);
  choose_named_kernels();
  if (count < 2) {
    std::cerr << "usage: bench_share MODEL.gguf [ROUNDS THREADS LAYERS [FILE.jsonl ...]] [--json FILE]\n";
    return exit_code(Fault::usage);
  }
  const auto number = [&](int i, int fallback) { return count > i ? std::max(1, std::atoi(arguments[i])) : fallback; };
  const int rounds = number(2, 5);
  const auto threads = static_cast<std::uint32_t>(number(3, 2)), layers = static_cast<std::uint32_t>(number(4, 17));
  const auto base = value_or_exit(Base::load({arguments[1]}));
  const auto tokenizer = value_or_exit(make_bpe(base->file()));
  if (count > 5) {
    const auto texts = first_records({arguments + 5, arguments + count}, *tokenizer, 24 * tokens_per_step);
    measure("files", texts, *tokenizer, ways(base, threads, layers), layers, rounds, results);
  }
  for (const std::size_t tokens : {64, 128, 512}) {
    Text text(1);
    std::vector<std::string> texts;
    for (std::size_t i = 0; i < 16 * tokens_per_step / tokens; ++i) texts.push_back(text.record(*tokenizer, tokens));
    measure("made up", texts, *tokenizer, ways(base, threads, layers), layers, rounds, results);
  }
  return 0;
}
