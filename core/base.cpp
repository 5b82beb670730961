#include "core/base.hpp"

#include <ATen/ops/empty.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <cmath>
#include <optional>

#include "core/gemm.hpp"
#include "core/weights.hpp"

namespace kpool {
namespace {

Error bad(const Gguf& file, const std::string& what) { return {Fault::bad_input, file.path() + ": " + what}; }

/// Reads one model file into Weights. Errors are sticky: the first one is kept, later reads do nothing.
class Loader {
 public:
  Loader(Base::Weights& weights, const BaseOptions& options)
      : weights_(weights), file_(*weights.file), options_(options) {}

  std::optional<Error> run() {
    read_shape();
    read_rope();
    choose_device();
    choose_precision();
    choose_weights();
    if (error_) return error_;
    weights_.embedding = matrix("token_embd.weight", shape_.vocabulary, shape_.hidden);
    for (std::int64_t i = 0; i < shape_.layers && !error_; ++i) read_layer("blk." + std::to_string(i) + ".");
    if (!part_) read_head();
    give_back();
    return error_;
  }

 private:
  void fail(const std::string& what) {
    if (!error_) error_ = bad(file_, what);
  }

  /// What was asked for is at fault, not the file.
  void refuse(const std::string& what) {
    if (!error_) error_ = Error{Fault::bad_config, what};
  }

  std::int64_t integer(const std::string& key, std::optional<std::int64_t> fallback = {}) {
    const auto value = file_.integer(shape_.architecture + "." + key);
    if (!value && !fallback) fail("the metadata lacks " + shape_.architecture + "." + key + ".");
    return value.value_or(fallback.value_or(1));
  }

  void read_shape() {
    shape_.architecture = file_.text("general.architecture").value_or("");
    if (shape_.architecture != "llama" && shape_.architecture != "qwen2")
      return fail("architecture \"" + shape_.architecture + "\" is not supported (llama and qwen2 are).");
    shape_.layers = integer("block_count");
    shape_.hidden = integer("embedding_length");
    shape_.heads = integer("attention.head_count");
    shape_.kv_heads = integer("attention.head_count_kv", shape_.heads);
    shape_.ffn = integer("feed_forward_length");
    shape_.context = integer("context_length", 2048);
    const auto* embedding = file_.find("token_embd.weight");
    if (!embedding || embedding->shape.size() != 2) return fail("tensor token_embd.weight is absent or no matrix.");
    shape_.vocabulary = embedding->shape[0];
    check_shape();
    if (error_) return;
    shape_.head_width = integer("attention.key_length", shape_.hidden / shape_.heads);
    if (shape_.head_width < 2 || shape_.head_width > 4096 || shape_.head_width % 2 != 0)
      fail("heads of width " + std::to_string(shape_.head_width) + " are not supported.");
    constexpr std::int64_t kWidest = 1 << 17;  // what sums of 8-bit integers hold
    for (std::int64_t value : {shape_.hidden, shape_.heads * shape_.head_width, shape_.ffn})
      if (value > kWidest) fail("a width of the model is " + std::to_string(value) + ".");
    if (integer("rope.dimension_count", shape_.head_width) != shape_.head_width)
      fail("rotary embedding of a part of each head is not supported.");
    const std::string scaling = file_.text(shape_.architecture + ".rope.scaling.type").value_or("none");
    if (scaling != "none") fail("rotary embedding with \"" + scaling + "\" scaling is not supported.");
    shape_.rms_epsilon = file_.real(shape_.architecture + ".attention.layer_norm_rms_epsilon").value_or(1e-5);
    shape_.rope_theta = file_.real(shape_.architecture + ".rope.freq_base").value_or(10000);
    if (!(shape_.rms_epsilon >= 0) || !(shape_.rope_theta > 0))
      fail("the norm's epsilon or RoPE's base is out of range.");
    limit_layers();
  }

  void check_shape() {
    constexpr std::int64_t kMax = 1 << 20;
    for (std::int64_t value :
         {shape_.layers, shape_.hidden, shape_.heads, shape_.kv_heads, shape_.ffn, shape_.vocabulary})
      if (value < 1 || value > kMax) return fail("a dimension of the model is " + std::to_string(value) + ".");
    if (shape_.heads % shape_.kv_heads != 0) fail("the number of heads is no multiple of the key-value heads.");
    if (shape_.context < 2) fail("the context length is below 2.");
  }

  void limit_layers() {
    shape_.file_layers = shape_.layers;
    part_ = options_.layers >= 0;
    if (!part_) return;
    if (options_.layers > shape_.layers)
      fail("has " + std::to_string(shape_.layers) + " layers, " + std::to_string(options_.layers) + " were asked for.");
    shape_.layers = options_.layers;
  }

  void read_rope() {
    if (error_) return;
    const std::int64_t half = shape_.head_width / 2;
    std::vector<float> factors(half, 1.0f);  // Llama 3 stretches the slow frequencies
    if (const auto* tensor = file_.find("rope_freqs.weight")) {
      if (tensor->shape != std::vector<std::int64_t>{half}) return fail("tensor rope_freqs.weight has a wrong shape.");
      dequantise(*tensor, 0, 1, factors.data());
    }
    for (std::int64_t i = 0; i < half; ++i) {
      const double exponent = static_cast<double>(2 * i) / static_cast<double>(shape_.head_width);
      weights_.inverse_frequencies.push_back(std::pow(shape_.rope_theta, -exponent) / factors[i]);
    }
  }

  void choose_precision() {
    if (options_.precision == "float32") weights_.dtype = at::kFloat;
    else if (options_.precision == "bfloat16") weights_.dtype = at::kBFloat16;
    else if (options_.precision == "auto")
      weights_.dtype = multiplies_bfloat16() || !weights_.device.is_cpu() ? at::kBFloat16 : at::kFloat;
    else refuse("precision \"" + options_.precision + "\" is none of auto, float32, bfloat16.");
  }

  void choose_device() {
    if (options_.device == "cpu") return;
    if (options_.device != "cuda") return refuse("device \"" + options_.device + "\" is none of cpu, cuda.");
    if (!c10::impl::hasDeviceGuardImpl(at::kCUDA))
      return refuse("device \"cuda\": this build of libtorch has no CUDA.");
    if (c10::impl::getDeviceGuardImpl(at::kCUDA)->deviceCount() == 0)
      return refuse("device \"cuda\": no CUDA device is visible.");
    if (options_.weights == "quantised")
      return refuse("device \"cuda\" needs weights \"bf16\": the processor expands quantised ones.");
    weights_.device = at::Device(at::kCUDA, 0);
  }

  void choose_weights() {
    if (error_) return;
    const bool runs_tiles = weights_.dtype == at::kFloat || multiplies_bfloat16();
    if (options_.library || !weights_.device.is_cpu() || !runs_tiles) weights_.operators = Operators::library;
    quantised_ = options_.weights == "quantised";
    if (!quantised_ && options_.weights != "bf16")
      refuse("weights \"" + options_.weights + "\" are none of bf16, quantised.");
    weights_.prefers_int8 =
        weights_.operators == Operators::tiles && options_.precision != "float32" && int8_is_faster();
    weights_.int8_forward = chooses_int8("forward", options_.forward);
    int8_gradients_ = chooses_int8("gradients", options_.gradients);
  }

  bool chooses_int8(const std::string& what, const std::string& choice) {
    if (choice != "auto" && choice != "int8" && choice != "full")
      refuse(what + " \"" + choice + "\": none of auto, int8, full.");
    const bool tiles = weights_.operators == Operators::tiles;
    if (choice == "int8" && !tiles && !options_.library)
      refuse(what + " \"int8\": only on the CPU, in a precision that it multiplies in hardware.");
    return tiles && (choice == "int8" || (choice == "auto" && weights_.prefers_int8));
  }

  /// What was expanded is not read again: it need not stay resident twice.
  void give_back() {
    if (!quantised_) file_.release();
  }

  void read_layer(const std::string& prefix) {
    const std::int64_t q = shape_.heads * shape_.head_width, kv = shape_.kv_heads * shape_.head_width;
    LayerWeights layer;
    layer.attention_norm = vector(prefix + "attn_norm.weight", shape_.hidden);
    const std::int64_t paired = shape_.architecture == "llama" ? shape_.head_width : 0;
    layer.qkv = fused({{prefix + "attn_q.weight", q, paired},
                       {prefix + "attn_k.weight", kv, paired},
                       {prefix + "attn_v.weight", kv}},
                      shape_.hidden);
    if (shape_.architecture == "qwen2") read_bias(prefix, q, kv, layer);
    layer.output = matrix(prefix + "attn_output.weight", shape_.hidden, q);
    layer.ffn_norm = vector(prefix + "ffn_norm.weight", shape_.hidden);
    layer.gate_up = fused({{prefix + "ffn_gate.weight", shape_.ffn}, {prefix + "ffn_up.weight", shape_.ffn}},
                          shape_.hidden);
    layer.down = matrix(prefix + "ffn_down.weight", shape_.hidden, shape_.ffn);
    for (FrozenMatrix* each : {&layer.qkv, &layer.output, &layer.gate_up, &layer.down})
      each->int8_gradients = int8_gradients_;  // not the head: many small probabilities would round to nothing
    weights_.layers.push_back(std::move(layer));
    give_back();
  }

  void read_bias(const std::string& prefix, std::int64_t q, std::int64_t kv, LayerWeights& layer) {
    layer.qkv_bias = at::empty({q + 2 * kv}, at::TensorOptions(weights_.device).dtype(weights_.dtype));
    const std::pair<const char*, std::int64_t> parts[] = {{"attn_q.bias", q}, {"attn_k.bias", kv}, {"attn_v.bias", kv}};
    std::int64_t row = 0;
    for (const auto& [name, length] : parts) {
      const at::Tensor bias = vector(prefix + name, length);
      if (error_) return;
      layer.qkv_bias.narrow(0, row, length).copy_(bias);
      row += length;
    }
  }

  void read_head() {
    weights_.final_norm = vector("output_norm.weight", shape_.hidden);
    weights_.head = file_.find("output.weight") ? matrix("output.weight", shape_.vocabulary, shape_.hidden)
                                                : weights_.embedding;
  }

  /// The tensor, checked; nullptr (and an error) where it is absent or of another shape.
  const GgufTensor* find(const std::string& name, std::vector<std::int64_t> shape) {
    if (error_) return nullptr;
    const GgufTensor* tensor = file_.find(name);
    if (!tensor) fail("tensor " + name + " is absent.");
    else if (tensor->shape != shape) fail("tensor " + name + " has another shape than the metadata says.");
    return error_ ? nullptr : tensor;
  }

  at::Tensor vector(const std::string& name, std::int64_t length) {
    const GgufTensor* tensor = find(name, {length});
    if (!tensor) return {};
    at::Tensor out = at::empty({length}, at::kFloat);
    dequantise(*tensor, 0, 1, out.mutable_data_ptr<float>());
    return out.to(weights_.device);
  }

  FrozenMatrix matrix(const std::string& name, std::int64_t rows, std::int64_t columns) {
    return fused({{name, rows}}, columns);
  }

  struct Rows {
    std::string name;
    std::int64_t count;
    std::int64_t paired_width = 0;
  };

  /// Several matrices of equal width, one below the other.
  FrozenMatrix fused(const std::vector<Rows>& parts, std::int64_t columns) {
    FrozenMatrix matrix{.columns = columns, .dtype = weights_.dtype};
    for (const Rows& part : parts) {
      const GgufTensor* tensor = find(part.name, {part.count, columns});
      if (!tensor) return {};
      matrix.parts.push_back({tensor, part.paired_width});
      matrix.rows += part.count;
    }
    if (quantised_) return matrix;
    if (weights_.operators == Operators::library) matrix.dense = matrix.expanded().to(weights_.device);
    else matrix.panels = matrix.packed();
    matrix.parts.clear();
    return matrix;
  }

  Base::Weights& weights_;
  BaseShape& shape_ = weights_.shape;
  const Gguf& file_;
  const BaseOptions& options_;
  bool part_ = false, quantised_ = false, int8_gradients_ = false;
  std::optional<Error> error_;
};

}  // namespace

Base::Base() : weights_(std::make_unique<Weights>()) {}
Base::~Base() = default;

Result<std::shared_ptr<const Base>> Base::load(const BaseOptions& options) {
  auto file = Gguf::open(options.path);
  if (!file) return file.error();
  std::shared_ptr<Base> base(new Base());
  base->weights_->file = std::move(*file);
  if (auto error = Loader(*base->weights_, options).run()) return *error;
  return std::shared_ptr<const Base>(std::move(base));
}

const BaseShape& Base::shape() const { return weights_->shape; }
const std::string& Base::fingerprint() const { return weights_->file->fingerprint(); }
const Gguf& Base::file() const { return *weights_->file; }
bool Base::int8_forward() const { return weights_->int8_forward; }
bool Base::int8_gradients() const { return !weights_->layers.empty() && weights_->layers[0].down.int8_gradients; }
const Base::Weights& Base::weights() const { return *weights_; }

}  // namespace kpool
