#include "core/slot.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

#include "core/safetensors.hpp"

namespace kpool {
namespace {

constexpr std::string_view kMomentum = "momentum.";

std::string to_text(double value) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, value).ptr};
}

Error damaged(const std::string& what) { return {Fault::bad_input, "stored slot: " + what}; }
Error mismatch(const std::string& what) { return {Fault::mismatch, "stored slot: " + what}; }

Result<std::uint64_t> counter(const SafeTensors& contents, const std::string& key) {
  const auto found = contents.metadata.find(key);
  if (found == contents.metadata.end()) return damaged("metadata " + key + " is absent.");
  std::uint64_t value = 0;
  const char* end = found->second.data() + found->second.size();
  const auto [stop, fault] = std::from_chars(found->second.data(), end, value);
  if (fault != std::errc{} || stop != end) return damaged("metadata " + key + " is no number.");
  return value;
}

/// Absent where nothing was measured.
Status read_optional(const SafeTensors& contents, const std::string& key, double& value) {
  const auto found = contents.metadata.find(key);
  if (found == contents.metadata.end()) return Done{};
  const char* end = found->second.data() + found->second.size();
  const auto [stop, fault] = std::from_chars(found->second.data(), end, value);
  if (fault != std::errc{} || stop != end || !std::isfinite(value) || value <= 0)
    return damaged("metadata " + key + " is no positive number.");
  return Done{};
}

Status expect(const SafeTensors& contents, const std::string& key, const std::string& wanted) {
  const auto found = contents.metadata.find(key);
  if (found == contents.metadata.end()) return damaged("metadata " + key + " is absent.");
  if (found->second != wanted) return mismatch(key + " is " + found->second + ", configured is " + wanted + ".");
  return Done{};
}

template <class T>
constexpr const char* kDtype = std::is_same_v<T, float> ? "F32" : "BF16";

template <class T>
SafeTensor view_of(const std::vector<T>& flat, std::int64_t offset, std::int64_t rows, std::int64_t columns) {
  const auto* bytes = reinterpret_cast<const char*>(flat.data() + offset);
  return {kDtype<T>, {rows, columns}, {bytes, static_cast<std::size_t>(rows * columns) * sizeof(T)}};
}

bool finite(float value) { return std::isfinite(value); }
bool finite(simd::Bf16 value) { return (value.bits & 0x7f80) != 0x7f80; }

/// bytes: values of type From, wherever they lie.
template <class From, class To>
void convert(std::string_view bytes, To* out) {
  if constexpr (std::is_same_v<From, To>) {
    std::memcpy(out, bytes.data(), bytes.size());
  } else {
    From chunk[512];
    while (!bytes.empty()) {
      const std::size_t taken = std::min(bytes.size(), sizeof chunk), count = taken / sizeof(From);
      std::memcpy(chunk, bytes.data(), taken);
      if constexpr (std::is_same_v<To, float>)
        simd::rows<simd::Bf16>().to_float(chunk, static_cast<std::int64_t>(count), out);
      else
        simd::rows<simd::Bf16>().from_float(chunk, static_cast<std::int64_t>(count), out);
      bytes.remove_prefix(taken);
      out += count;
    }
  }
}

/// Copies one tensor into the flat array; either: it may be stored as BF16, too.
template <class T>
Status read_tensor(const SafeTensors& contents, const std::string& name, std::int64_t rows, std::int64_t columns,
                   bool either, T* out) {
  const auto found = contents.tensors.find(name);
  if (found == contents.tensors.end()) return mismatch("tensor " + name + " is absent.");
  const SafeTensor& tensor = found->second;
  const bool narrow = either && tensor.dtype == "BF16";
  if ((tensor.dtype != "F32" && !narrow) || tensor.shape != std::vector<std::int64_t>{rows, columns})
    return mismatch("tensor " + name + " has another type or shape than the configured adapter.");
  narrow ? convert<simd::Bf16>(tensor.data, out) : convert<float>(tensor.data, out);
  if (!std::all_of(out, out + rows * columns, [](T value) { return finite(value); }))
    return damaged("tensor " + name + " holds a value that is not finite.");
  return Done{};
}

/// All matrices of the adapter, under `prefix`, into a flat array.
template <class T>
Status read_all(const SafeTensors& contents, const LoraLayout& layout, std::string_view prefix, std::vector<T>& flat) {
  const bool is_momentum = prefix == kMomentum;
  const std::string before(prefix);
  for (const LoraPlace& place : layout.places) {
    auto a = read_tensor(contents, before + lora_a_name(place), layout.rank, place.in, is_momentum,
                         flat.data() + place.a);
    if (!a) return a;
    auto b = read_tensor(contents, before + lora_b_name(place), place.out, layout.rank, is_momentum,
                         flat.data() + place.b);
    if (!b) return b;
  }
  return Done{};
}

}  // namespace

std::string lora_a_name(const LoraPlace& place) { return "base_model.model.model." + place.module + ".lora_A.weight"; }
std::string lora_b_name(const LoraPlace& place) { return "base_model.model.model." + place.module + ".lora_B.weight"; }

Momentum zero_momentum(MomentumType type, std::size_t size) {
  if (type == MomentumType::float32) return std::vector<float>(size);
  return std::vector<simd::Bf16>(size);
}

std::string save_slot(const SlotState& state, const LoraLayout& layout, const SlotIdentity& identity) {
  KPOOL_ASSERT(state.open());
  SafeTensors contents;
  for (const LoraPlace& place : layout.places) {
    const std::string a = lora_a_name(place), b = lora_b_name(place), momentum(kMomentum);
    contents.tensors[a] = view_of(state.weights, place.a, layout.rank, place.in);
    contents.tensors[b] = view_of(state.weights, place.b, place.out, layout.rank);
    std::visit([&](const auto& flat) {
      contents.tensors[momentum + a] = view_of(flat, place.a, layout.rank, place.in);
      contents.tensors[momentum + b] = view_of(flat, place.b, place.out, layout.rank);
    }, state.momentum);
  }
  contents.metadata = {{"rank", std::to_string(layout.rank)},
                       {"alpha", to_text(identity.alpha)},
                       {"base", identity.base},
                       {"generation", std::to_string(state.generation)},
                       {"step", std::to_string(state.step)}};
  if (state.guard.rate > 0) contents.metadata["rate"] = to_text(state.guard.rate);
  if (state.guard.cliff > 0) contents.metadata["cliff"] = to_text(state.guard.cliff);
  return write_safetensors(contents);
}

Result<SlotState> restore_slot(std::string_view bytes, const LoraLayout& layout, const SlotIdentity& identity,
                               MomentumType momentum) {
  auto contents = parse_safetensors(bytes);
  if (!contents) return contents.error();
  const std::pair<const char*, std::string> fixed[] = {
      {"rank", std::to_string(layout.rank)}, {"alpha", to_text(identity.alpha)}, {"base", identity.base}};
  for (const auto& [key, wanted] : fixed)
    if (auto same = expect(*contents, key, wanted); !same) return same.error();
  const auto generation = counter(*contents, "generation"), step = counter(*contents, "step");
  if (!generation) return generation.error();
  if (!step) return step.error();
  if (*generation == 0) return damaged("its generation is 0.");
  const auto size = static_cast<std::size_t>(layout.size);
  SlotState state{*generation, *step, std::vector<float>(size), zero_momentum(momentum, size)};
  if (auto read = read_optional(*contents, "rate", state.guard.rate); !read) return read.error();
  if (auto read = read_optional(*contents, "cliff", state.guard.cliff); !read) return read.error();
  if (auto read = read_all(*contents, layout, "", state.weights); !read) return read.error();
  const auto read = std::visit([&](auto& flat) { return read_all(*contents, layout, kMomentum, flat); },
                               state.momentum);
  if (!read) return read.error();
  if (contents->tensors.size() != 4 * layout.places.size())
    return mismatch("it holds " + std::to_string(contents->tensors.size()) + " tensors, the configured adapter has " +
                    std::to_string(4 * layout.places.size()) + ".");
  return state;
}

void PackingBuffer::add(Sample sample) {
  tokens_ += static_cast<std::int64_t>(sample.tokens.size());
  const auto context = std::max<std::int64_t>(1, sample.prompt_tokens);
  waiting_.push_back({std::move(sample), context, true});
}

std::vector<PackingBuffer::Piece> PackingBuffer::take(std::int64_t limit) {
  KPOOL_ASSERT(limit >= 2);
  std::vector<Piece> taken;
  std::size_t whole = 0;
  for (; whole < waiting_.size(); ++whole) {
    Piece& piece = waiting_[whole];
    const auto length = static_cast<std::int64_t>(piece.sample.tokens.size());
    if (length <= limit) {
      limit -= length;
      tokens_ -= length;
      taken.push_back(std::move(piece));
      continue;
    }
    if (limit < 2) break;  // one token alone predicts nothing
    std::vector<std::int32_t>& tokens = piece.sample.tokens;
    Piece front{{piece.sample.origin, piece.sample.prompt_tokens, {tokens.begin(), tokens.begin() + limit},
                 std::exchange(piece.sample.hidden, {})},  // what is left begins elsewhere, without what was before
                piece.context, false};
    tokens.erase(tokens.begin(), tokens.begin() + limit - 1);
    piece.context = std::max<std::int64_t>(1, piece.context - (limit - 1));
    tokens_ -= limit - 1;
    taken.push_back(std::move(front));
    break;
  }
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(whole));
  return taken;
}

void PackingBuffer::drop(const Origin& origin) {
  if (waiting_.empty() || !(waiting_.front().sample.origin == origin)) return;
  tokens_ -= static_cast<std::int64_t>(waiting_.front().sample.tokens.size());
  waiting_.erase(waiting_.begin());
}

void PackingBuffer::clear() {
  waiting_.clear();
  tokens_ = 0;
}

}  // namespace kpool
