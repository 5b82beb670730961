#include "tests/tiny_model.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "tests/gguf_writer.hpp"

namespace kpool::testing {
namespace {

constexpr const char* kMerges[] = {"t h", "th e", "i n", "a n", "\u0120 the", "e r", "\u0120 an"};

std::string utf8(std::uint32_t point) {
  if (point < 0x80) return {static_cast<char>(point)};
  return {static_cast<char>(0xc0 | (point >> 6)), static_cast<char>(0x80 | (point & 0x3f))};
}

/// Byte-level BPE names each byte by a printable character: itself, or one from 256 on.
std::vector<std::string> byte_names() {
  std::vector<std::string> names;
  std::uint32_t next = 256;
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte > 32 && byte < 127) || (byte > 160 && byte != 173);
    names.push_back(utf8(printable ? byte : next++));
  }
  return names;
}

/// Uniform weights from an engine whose output the standard fixes (distributions are not).
class Weights {
 public:
  explicit Weights(std::uint64_t seed) : engine_(seed) {}
  std::vector<float> draw(std::int64_t count, double middle, double spread) {
    std::vector<float> values;
    for (std::int64_t i = 0; i < count; ++i)
      values.push_back(static_cast<float>(middle + spread * (static_cast<double>(engine_() >> 11) * 0x1p-52 - 1)));
    return values;
  }

 private:
  std::mt19937_64 engine_;
};

/// Blocks of 32 with one power of two as their scale, so that its half precision is exact.
std::string quantised(GgmlType type, const std::vector<float>& values, double spread) {
  const double levels = type == GgmlType::q4_0 ? 7 : 127;
  const int exponent = static_cast<int>(std::ceil(std::log2(spread / levels)));
  const auto scale = static_cast<std::uint16_t>((15 + exponent) << 10);
  std::string out;
  for (std::size_t first = 0; first < values.size(); first += 32) {
    auto level = [&](std::size_t i) {
      return static_cast<int>(std::lround(std::clamp(values[first + i] * std::exp2(-exponent), -levels, levels)));
    };
    out.append(reinterpret_cast<const char*>(&scale), sizeof scale);
    for (std::size_t i = 0; i < 32 && type == GgmlType::q8_0; ++i) out += static_cast<char>(level(i));
    for (std::size_t i = 0; i < 16 && type == GgmlType::q4_0; ++i)
      out += static_cast<char>((level(i) + 8) | (level(i + 16) + 8) << 4);
  }
  return out;
}

/// A matrix of the model's type, uniform in +-spread.
void add_matrix(GgufWriter& file, const TinyModel& model, Weights& weights, const std::string& name, std::int64_t rows,
                std::int64_t columns, double spread) {
  const auto values = weights.draw(rows * columns, 0, spread);
  if (model.type == GgmlType::f32) file.tensor(name, {rows, columns}, values);
  else file.raw_tensor(name, model.type, {rows, columns}, quantised(model.type, values, spread));
}

void add_tokenizer(GgufWriter& file, std::vector<std::string>& tokens) {
  tokens = byte_names();
  std::vector<std::string> merges;
  for (std::string merge : kMerges) {
    merges.push_back(merge);
    tokens.push_back(merge.erase(merge.find(' '), 1));
  }
  tokens.push_back("<|endoftext|>");
  std::vector<std::int32_t> types(tokens.size(), 1);
  types.back() = 3;
  file.text("tokenizer.ggml.model", "gpt2").text("tokenizer.ggml.pre", "smollm");
  file.texts("tokenizer.ggml.tokens", tokens).integers("tokenizer.ggml.token_type", types);
  file.texts("tokenizer.ggml.merges", merges);
}

void add_layer(GgufWriter& file, const TinyModel& model, Weights& weights, const std::string& prefix) {
  const std::int64_t width = model.hidden / model.heads, kv = model.kv_heads * width;
  auto matrix = [&](const std::string& name, std::int64_t rows, std::int64_t columns) {
    add_matrix(file, model, weights, prefix + name, rows, columns, 1.5 / std::sqrt(static_cast<double>(columns)));
  };
  auto vector = [&](const std::string& name, std::int64_t length, double middle) {
    file.tensor(prefix + name, {length}, weights.draw(length, middle, 0.3));
  };
  vector("attn_norm.weight", model.hidden, 1);
  matrix("attn_q.weight", model.hidden, model.hidden);
  matrix("attn_k.weight", kv, model.hidden);
  matrix("attn_v.weight", kv, model.hidden);
  if (model.architecture == "qwen2") {
    vector("attn_q.bias", model.hidden, 0);
    vector("attn_k.bias", kv, 0);
    vector("attn_v.bias", kv, 0);
  }
  matrix("attn_output.weight", model.hidden, model.hidden);
  vector("ffn_norm.weight", model.hidden, 1);
  matrix("ffn_gate.weight", model.ffn, model.hidden);
  matrix("ffn_up.weight", model.ffn, model.hidden);
  matrix("ffn_down.weight", model.hidden, model.ffn);
}

}  // namespace

void write_tiny_model(const TinyModel& model, const std::string& path) {
  GgufWriter file;
  const std::string prefix = model.architecture + ".";
  auto word = [&](const char* key, std::int64_t value) { file.word(prefix + key, static_cast<std::uint32_t>(value)); };
  file.text("general.architecture", model.architecture).text("general.name", "tiny");
  word("block_count", model.layers);
  word("embedding_length", model.hidden);
  word("attention.head_count", model.heads);
  word("attention.head_count_kv", model.kv_heads);
  word("feed_forward_length", model.ffn);
  word("context_length", model.context);
  file.real(prefix + "attention.layer_norm_rms_epsilon", 1e-5f).real(prefix + "rope.freq_base", 10000.0f);
  std::vector<std::string> tokens;
  add_tokenizer(file, tokens);
  const auto vocabulary = static_cast<std::int64_t>(tokens.size());
  Weights weights(model.seed);
  add_matrix(file, model, weights, "token_embd.weight", vocabulary, model.hidden, 0.6);
  for (std::int64_t i = 0; i < model.layers; ++i) add_layer(file, model, weights, "blk." + std::to_string(i) + ".");
  file.tensor("output_norm.weight", {model.hidden}, weights.draw(model.hidden, 1, 0.3));
  if (!model.tied) add_matrix(file, model, weights, "output.weight", vocabulary, model.hidden, 0.6);
  file.write(path);
}

}  // namespace kpool::testing
