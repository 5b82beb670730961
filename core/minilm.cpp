// A BERT encoder (Devlin et al. 2019) in float32 with mean pooling, as sentence-transformers runs it.
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/softmax.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/embedder.hpp"
#include "core/mapped_file.hpp"
#include "core/safetensors.hpp"
#include "core/tokenizer.hpp"

namespace kpool {
namespace {

struct Affine {
  at::Tensor weight;  ///< (out, in); of a norm: (hidden)
  at::Tensor bias;    ///< (out)
};

struct BertLayer {
  Affine query, key, value, output, output_norm, inner, outer, outer_norm;
};

struct Bert {
  std::int64_t hidden = 0, heads = 0, layers = 0, ffn = 0, vocabulary = 0, positions = 0;
  double epsilon = 1e-12;
  std::int64_t tokens_max = 0;      ///< with both markers
  std::int32_t first = 0, last = 0; ///< [CLS] and [SEP]
  at::Tensor words;                 ///< (vocabulary, hidden)
  at::Tensor places;                ///< (positions, hidden), the type of the first sentence added
  Affine norm;
  std::vector<BertLayer> stack;
};

Error bad(const std::string& where, const std::string& what) { return {Fault::bad_input, where + ": " + what}; }

/// Fills a Bert from the files of one directory; the first error is kept.
class BertLoader {
 public:
  BertLoader(const std::string& directory, Bert& bert) : directory_(directory), bert_(bert) {}

  std::optional<Error> run() {
    read_config();
    read_markers();
    if (error_) return error_;
    auto file = MappedFile::open(directory_ + "/model.safetensors");
    if (!file) return file.error();
    const auto bytes = (*file)->bytes();
    auto contents = parse_safetensors({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    if (!contents) return bad(directory_ + "/model.safetensors", contents.error().message);
    contents_ = &*contents;
    read_tensors();
    return error_;
  }

 private:
  void fail(Error error) {
    if (!error_) error_ = std::move(error);
  }

  nlohmann::json json_file(const std::string& name, bool required) {
    const std::string path = directory_ + "/" + name;
    std::ifstream in(path, std::ios::binary);
    if (!in) {
      if (required) fail({Fault::missing, path + " cannot be opened."});
      return {};
    }
    auto value = nlohmann::json::parse(in, nullptr, false);
    if (!value.is_object()) fail(bad(path, "is no JSON object."));
    return value;
  }

  std::int64_t number(const nlohmann::json& object, const char* key) {
    const auto found = object.is_object() ? object.find(key) : object.end();
    if (!object.is_object() || found == object.end() || !found->is_number_integer()) {
      fail(bad(directory_ + "/config.json", std::string(key) + " is absent or no integer."));
      return 1;
    }
    const auto value = found->get<std::int64_t>();
    if (value < 1 || value > (1 << 20)) fail(bad(directory_ + "/config.json", std::string(key) + " is out of range."));
    return value;
  }

  void read_config() {
    const auto config = json_file("config.json", true);
    if (error_) return;
    bert_.hidden = number(config, "hidden_size");
    bert_.heads = number(config, "num_attention_heads");
    bert_.layers = number(config, "num_hidden_layers");
    bert_.ffn = number(config, "intermediate_size");
    bert_.vocabulary = number(config, "vocab_size");
    bert_.positions = number(config, "max_position_embeddings");
    if (config.contains("layer_norm_eps") && config["layer_norm_eps"].is_number())
      bert_.epsilon = config["layer_norm_eps"];
    if (!error_ && bert_.hidden % bert_.heads != 0)
      fail(bad(directory_ + "/config.json", "hidden_size is no multiple of num_attention_heads."));
    if (!error_ && config.value("hidden_act", "gelu") != "gelu")
      fail(bad(directory_ + "/config.json", "hidden_act is not gelu."));
    bert_.tokens_max = bert_.positions;
    const auto sentence = json_file("sentence_bert_config.json", false);
    if (sentence.is_object() && sentence.contains("max_seq_length") && sentence["max_seq_length"].is_number_integer())
      bert_.tokens_max = std::clamp<std::int64_t>(sentence["max_seq_length"], 3, bert_.positions);
  }

  void read_markers() {
    const std::string path = directory_ + "/vocab.txt";
    std::ifstream in(path, std::ios::binary);
    if (!in) return fail({Fault::missing, path + " cannot be opened."});
    std::optional<std::int32_t> first, last;
    std::string line;
    std::int32_t id = 0;
    for (; std::getline(in, line); ++id) {
      if (line.ends_with('\r')) line.pop_back();
      if (line == "[CLS]") first = id;
      if (line == "[SEP]") last = id;
    }
    if (!first || !last) return fail(bad(path, "lacks [CLS] or [SEP]."));
    if (id > bert_.vocabulary) return fail(bad(path, "has more words than config.json's vocab_size."));
    bert_.first = *first;
    bert_.last = *last;
  }

  at::Tensor tensor(const std::string& name, std::vector<std::int64_t> shape) {
    if (error_) return {};
    const auto found = contents_->tensors.find(name);
    const std::string path = directory_ + "/model.safetensors";
    if (found == contents_->tensors.end()) fail(bad(path, "tensor " + name + " is absent."));
    else if (found->second.dtype != "F32" || found->second.shape != shape)
      fail(bad(path, "tensor " + name + " has another type or shape than config.json says."));
    if (error_) return {};
    at::Tensor out = at::empty(shape, at::kFloat);
    std::memcpy(out.mutable_data_ptr<float>(), found->second.data.data(), found->second.data.size());
    return out;
  }

  Affine linear(const std::string& name, std::int64_t out, std::int64_t in) {
    return {tensor(name + ".weight", {out, in}), tensor(name + ".bias", {out})};
  }
  Affine norm(const std::string& name) {
    return {tensor(name + ".weight", {bert_.hidden}), tensor(name + ".bias", {bert_.hidden})};
  }

  void read_tensors() {
    const std::int64_t hidden = bert_.hidden;
    bert_.words = tensor("embeddings.word_embeddings.weight", {bert_.vocabulary, hidden});
    bert_.places = tensor("embeddings.position_embeddings.weight", {bert_.positions, hidden});
    const at::Tensor types = tensor("embeddings.token_type_embeddings.weight", {2, hidden});
    if (!error_) bert_.places.add_(types.narrow(0, 0, 1));
    bert_.norm = norm("embeddings.LayerNorm");
    for (std::int64_t i = 0; i < bert_.layers && !error_; ++i) {
      const std::string layer = "encoder.layer." + std::to_string(i) + ".", self = layer + "attention.self.";
      bert_.stack.push_back({linear(self + "query", hidden, hidden), linear(self + "key", hidden, hidden),
                             linear(self + "value", hidden, hidden),
                             linear(layer + "attention.output.dense", hidden, hidden),
                             norm(layer + "attention.output.LayerNorm"),
                             linear(layer + "intermediate.dense", bert_.ffn, hidden),
                             linear(layer + "output.dense", hidden, bert_.ffn), norm(layer + "output.LayerNorm")});
    }
  }

  const std::string& directory_;
  Bert& bert_;
  const SafeTensors* contents_ = nullptr;
  std::optional<Error> error_;
};

at::Tensor apply(const Affine& affine, const at::Tensor& x) { return at::linear(x, affine.weight, affine.bias); }

at::Tensor normalise(const Bert& bert, const Affine& affine, const at::Tensor& x) {
  return at::layer_norm(x, {bert.hidden}, affine.weight, affine.bias, bert.epsilon);
}

/// x: (tokens, hidden); every token sees every other.
at::Tensor attend(const Bert& bert, const BertLayer& layer, const at::Tensor& x) {
  const std::int64_t width = bert.hidden / bert.heads;
  auto heads = [&](const at::Tensor& y) { return y.view({-1, bert.heads, width}).transpose(0, 1); };
  const at::Tensor q = heads(apply(layer.query, x)), k = heads(apply(layer.key, x)), v = heads(apply(layer.value, x));
  const at::Tensor scores = at::bmm(q, k.transpose(1, 2)).div_(std::sqrt(static_cast<double>(width)));
  return at::bmm(at::softmax(scores, -1), v).transpose(0, 1).reshape({-1, bert.hidden});
}

/// ids: (tokens) int64; returns (tokens, hidden).
at::Tensor run(const Bert& bert, const at::Tensor& ids) {
  at::Tensor x = bert.words.index_select(0, ids).add_(bert.places.narrow(0, 0, ids.size(0)));
  x = normalise(bert, bert.norm, x);
  for (const BertLayer& layer : bert.stack) {
    x = normalise(bert, layer.output_norm, apply(layer.output, attend(bert, layer, x)).add_(x));
    const at::Tensor inner = at::gelu(apply(layer.inner, x));
    x = normalise(bert, layer.outer_norm, apply(layer.outer, inner).add_(x));
  }
  return x;
}

class MiniLmEmbedder final : public Embedder {
 public:
  MiniLmEmbedder(Bert bert, std::unique_ptr<Tokenizer> tokenizer)
      : bert_(std::move(bert)), tokenizer_(std::move(tokenizer)) {}

  std::vector<Embedded> embed(std::span<const TokenizedText> texts) const override {
    std::vector<Embedded> embeddings;
    for (const TokenizedText& text : texts) embeddings.push_back({embed_one(text.text), {}});
    return embeddings;
  }

  std::size_t width() const override { return static_cast<std::size_t>(bert_.hidden); }

 private:
  std::vector<float> embed_one(std::string_view text) const {
    std::vector<std::int32_t> words = tokenizer_->encode(text);
    words.resize(std::min(words.size(), static_cast<std::size_t>(bert_.tokens_max - 2)));
    at::Tensor ids = at::empty({static_cast<std::int64_t>(words.size()) + 2}, at::kLong);
    auto* out = ids.mutable_data_ptr<std::int64_t>();
    *out++ = bert_.first;
    out = std::copy(words.begin(), words.end(), out);
    *out = bert_.last;
    at::Tensor mean = run(bert_, ids).mean(0);
    mean.div_(mean.norm().clamp_min(1e-12));
    const float* values = mean.const_data_ptr<float>();
    return {values, values + bert_.hidden};
  }

  const Bert bert_;
  const std::unique_ptr<Tokenizer> tokenizer_;
};

}  // namespace

Result<std::unique_ptr<Embedder>> make_minilm_embedder(const std::string& directory, std::uint32_t tokens_max) {
  Bert bert;
  if (auto error = BertLoader(directory, bert).run()) return *error;
  bert.tokens_max = std::clamp<std::int64_t>(tokens_max, 3, bert.tokens_max);
  auto tokenizer = make_wordpiece(directory + "/vocab.txt");
  if (!tokenizer) return tokenizer.error();
  if (static_cast<std::int64_t>((*tokenizer)->size()) > bert.vocabulary)
    return bad(directory + "/vocab.txt", "has more words than config.json's vocab_size.");
  return std::unique_ptr<Embedder>(std::make_unique<MiniLmEmbedder>(std::move(bert), std::move(*tokenizer)));
}

}  // namespace kpool
