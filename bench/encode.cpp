// bench_encode MODEL.gguf MINILM_DIRECTORY [ROUNDS PRECISION [FILE.jsonl ...]] [--json FILE]
// What a record costs before it is trained on: the frozen encoders base:13 and minilm, and the router, in microseconds
// per record, and their share of a training step's time on the same tokens. One JSON line per encoder, record length
// and number of threads, and where JSON Lines files are given (field "text") for the first records of those as they
// are, in turns, base:13 alone. In each round encoder and step take turns on the same 512 tokens; medians, the share as
// the median of ratios within a round. The encoders have the daemon's default options, but for the threads.
#include "bench/records.hpp"
#include "core/router.hpp"

using namespace kpool;

namespace {

/// Microseconds per record of a router whose five slots are known, on embeddings of five domains in turns of eight.
double measure_router(Encoder& encoder, const Tokenizer& tokenizer) {
  std::vector<std::vector<float>> rows;
  for (std::uint32_t domain = 0; domain < 5; ++domain) {
    Text text(domain);
    std::vector<std::string> texts;
    for (int i = 0; i < 16; ++i) texts.push_back(text.record(tokenizer, 64));
    for (EncodedRecord& record : encode(encoder, texts)) rows.push_back(std::move(record.embedding));
  }
  const auto router = make_router({}, encoder.width());
  const auto route = [&](std::size_t i) { router->route(i, rows[i / 8 % 5 * 16 + (i / 40 * 8 + i) % 16]); };
  std::size_t i = 0;
  for (; i < 2000; ++i) route(i);
  return 1e6 * seconds([&] { for (; i < 4000; ++i) route(i); }) / 2000;
}

struct Case {
  std::string encoder;
  std::string path;
  std::uint32_t threads;
  std::size_t tokens;  ///< of a record
};

void measure(const Case& what, const std::shared_ptr<const Base>& base, const Tokenizer& tokenizer, int rounds,
             Results& results) {
  EncoderOptions options{what.encoder, what.path};
  options.threads = what.threads;
  const auto encoder = value_or_exit(make_encoder(options, base));
  const auto learner = one_slot(base, what.threads);
  Text text(1);
  const std::size_t records = tokens_per_step / what.tokens;
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < records; ++i) texts.push_back(text.record(tokenizer, what.tokens));
  std::vector<double> encoding, training, encoder_shares, shares;
  const double routing = measure_router(*encoder, tokenizer);
  for (int round = -1; round < rounds; ++round) {  // one to warm up
    std::vector<EncodedRecord> encoded;
    const double before = 1e6 * seconds([&] { encoded = encode(*encoder, texts); });
    std::size_t steps = 0;
    const double step = 1e6 * seconds([&] {
      for (EncodedRecord& record : encoded) {
        record.tokens.resize(what.tokens);
        steps += learner->learn(0, {record.origin, 0, std::move(record.tokens)}).size();
      }
    });
    KPOOL_ASSERT(steps == 1);
    if (round < 0) continue;
    encoding.push_back(before / static_cast<double>(records));
    training.push_back(step);
    encoder_shares.push_back(before / step);
    shares.push_back((before + static_cast<double>(records) * routing) / step);
  }
  results.add({{"encoder", what.encoder},
               {"width", encoder->width()},
               {"threads", what.threads},
               {"record_tokens", what.tokens},
               {"rounds", rounds},
               {"encode_us_per_record", rounded(median(encoding), 1)},
               {"route_us_per_record", rounded(routing, 1)},
               {"step_ms", rounded(median(training) / 1e3, 2)},
               {"encode_share_of_step", rounded(median(encoder_shares), 4)},
               {"share_of_step", rounded(median(shares), 4)}});
}

/// Records of any length, all encoded, then all trained on.
void measure_files(std::span<char*> files, std::uint32_t threads, const std::shared_ptr<const Base>& base,
                   const Tokenizer& tokenizer, int rounds, Results& results) {
  EncoderOptions options;
  options.threads = threads;
  const auto encoder = value_or_exit(make_encoder(options, base));
  const auto learner = one_slot(base, threads);
  const auto texts = first_records(files, tokenizer, 24 * tokens_per_step);
  const double routing = measure_router(*encoder, tokenizer);
  std::vector<double> shares;
  std::size_t tokens = 0;
  for (int round = -1; round < rounds; ++round) {
    std::vector<EncodedRecord> encoded;
    const double before = 1e6 * seconds([&] { encoded = encode(*encoder, texts); });
    tokens = 0;
    for (const EncodedRecord& record : encoded) tokens += record.tokens.size();
    const double training = 1e6 * seconds([&] {
      for (EncodedRecord& record : encoded) learner->learn(0, {record.origin, 0, std::move(record.tokens)});
      learner->flush();
    });
    if (round >= 0) shares.push_back((before + static_cast<double>(texts.size()) * routing) / training);
  }
  results.add({{"encoder", options.kind}, {"threads", threads}, {"files", files.size()}, {"records", texts.size()},
               {"tokens_per_record", rounded(static_cast<double>(tokens) / static_cast<double>(texts.size()), 1)},
               {"rounds", rounds}, {"share_of_training", rounded(median(shares), 4)}});
}

}  // namespace

int main(int count, char** arguments) {
  Results results(count, arguments);
  choose_named_kernels();
  if (count < 3) {
    std::cerr << "usage: bench_encode MODEL.gguf MINILM_DIRECTORY [ROUNDS PRECISION [FILE.jsonl ...]] [--json FILE]\n";
    return exit_code(Fault::usage);
  }
  const int rounds = count > 3 ? std::max(1, std::atoi(arguments[3])) : 5;
  const auto base = value_or_exit(Base::load({arguments[1], count > 4 ? arguments[4] : "auto"}));
  const auto tokenizer = value_or_exit(make_bpe(base->file()));
  for (const std::uint32_t threads : {1U, 2U}) {
    const std::span files(arguments + std::min(count, 5), arguments + count);
    if (!files.empty()) measure_files(files, threads, base, *tokenizer, rounds, results);
    for (const auto& [encoder, path] : {std::pair<std::string, std::string>{"base:13", ""}, {"minilm", arguments[2]}})
      for (const std::size_t tokens : {64, 128, 512})
        measure({encoder, path, threads, tokens}, base, *tokenizer, rounds, results);
  }
  return 0;
}
