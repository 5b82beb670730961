#include "apps/kpoolctl_pool.hpp"

#include <charconv>
#include <cmath>
#include <cstring>

#include "core/safetensors.hpp"
#include "storage/peft.hpp"

namespace kpool {
namespace {

Error damaged(const std::string& what) { return {Fault::bad_input, what}; }

Result<std::uint64_t> counter(const SafeTensors& contents, const std::string& key) {
  const auto found = contents.metadata.find(key);
  std::uint64_t value = 0;
  if (found == contents.metadata.end()) return damaged("lacks the metadata " + key);
  const char* end = found->second.data() + found->second.size();
  const auto [stop, fault] = std::from_chars(found->second.data(), end, value);
  if (fault != std::errc{} || stop != end) return damaged("has metadata " + key + " that is no number");
  return value;
}

/// Whether all numbers of the tensor are finite. A momentum may be bfloat16: the upper half of a float32.
Status check_floats(const std::string& name, const SafeTensor& tensor) {
  const bool narrow = tensor.dtype == "BF16" && name.starts_with("momentum.");
  if (tensor.dtype != "F32" && !narrow)
    return damaged("holds the tensor " + name + " as " + tensor.dtype + ", not F32");
  const std::size_t width = narrow ? 2 : sizeof(float);
  for (std::size_t at = 0; at + width <= tensor.data.size(); at += width) {
    float value = 0;
    std::memcpy(reinterpret_cast<char*>(&value) + sizeof value - width, tensor.data.data() + at, width);
    if (!std::isfinite(value)) return damaged("holds a number that is not finite in the tensor " + name);
  }
  return Done{};
}

}  // namespace

Result<Pool> open_pool(const std::string& path) {
  auto store = open_store_read_only(path);
  if (!store) return store.error();
  auto values = (*store)->load();
  if (!values) return values.error();
  return Pool{path, *std::move(values)};
}

Result<std::string> slot_blob(const Pool& pool, std::uint32_t index) {
  const auto found = pool.values.find("slot/" + std::to_string(index));
  if (found != pool.values.end()) return found->second;
  std::string there;
  for (const auto& [key, value] : pool.values)
    if (key.starts_with("slot/")) there += (there.empty() ? "" : ", ") + key.substr(5);
  return Error{Fault::missing, "the pool " + pool.path + " has no slot " + std::to_string(index) +
                                   (there.empty() ? ": nothing was learned yet" : "; it has " + there)};
}

Result<std::string> mixture_blob(const Pool& pool) {
  const auto found = pool.values.find("mixture");
  if (found != pool.values.end()) return found->second;
  return Error{Fault::missing, "the pool " + pool.path + " has no mixture: nothing was routed yet"};
}

std::optional<std::string> stored_encoder(const Pool& pool) {
  const auto found = pool.values.find("identity/encoding");
  if (found == pool.values.end()) return std::nullopt;
  constexpr std::string_view label = "encoder ";
  const auto at = found->second.find(label);
  if (at == std::string::npos) return std::nullopt;
  return found->second.substr(at + label.size());
}

Status check_base(const Pool& pool, std::string_view model, std::string_view fingerprint) {
  constexpr std::string_view label = "base ";
  for (const char* key : {"identity/encoding", "identity/training"}) {
    const auto found = pool.values.find(key);
    if (found == pool.values.end() || !found->second.starts_with(label)) continue;
    const std::string stored = found->second.substr(label.size(), found->second.find(',') - label.size());
    if (!stored.empty() && fingerprint.starts_with(stored)) continue;
    return Error{Fault::mismatch, "the pool " + pool.path + " was made with the base " + stored + "..., but " +
                                      std::string(model) + " is " + std::string(fingerprint.substr(0, 16)) + "..."};
  }
  return Done{};
}

Result<SlotLabel> read_slot(std::string_view blob) {
  auto contents = parse_safetensors(blob);
  if (!contents) return damaged("is no safetensors file: " + contents.error().message);
  if (contents->tensors.empty()) return damaged("holds no tensor");
  for (const auto& [name, tensor] : contents->tensors)
    if (auto finite = check_floats(name, tensor); !finite) return finite.error();
  const auto generation = counter(*contents, "generation"), step = counter(*contents, "step");
  if (!generation) return generation.error();
  if (!step) return step.error();
  SlotLabel label;
  label.generation = *generation;
  label.step = *step;
  for (const auto& [key, value] : {std::pair{"base", &label.base}, {"rank", &label.rank}, {"alpha", &label.alpha}}) {
    const auto found = contents->metadata.find(key);
    if (found == contents->metadata.end()) return damaged(std::string("lacks the metadata ") + key);
    *value = found->second;
  }
  return label;
}

Status export_slot(const std::string& store, std::uint32_t index, const std::string& directory) {
  auto pool = open_pool(store);
  if (!pool) return pool.error();
  auto blob = slot_blob(*pool, index);
  if (!blob) return blob.error();
  return export_peft(*blob, directory);
}

}  // namespace kpool
