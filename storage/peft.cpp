#include "storage/peft.hpp"

#include <charconv>
#include <deque>
#include <filesystem>

#include "core/mapped_file.hpp"
#include "core/quantisation.hpp"
#include "core/safetensors.hpp"
#include "storage/peft_config.hpp"
#include "storage/whole_directory.hpp"

namespace kpool {
namespace {

constexpr const char* kConfigFile = "adapter_config.json";
constexpr const char* kTensorsFile = "adapter_model.safetensors";
constexpr std::size_t kConfigBytesMax = std::size_t{1} << 20;
constexpr std::string_view kMomentum = "momentum.";
constexpr std::string_view kSuffixA = ".lora_A.weight";
constexpr std::string_view kSuffixB = ".lora_B.weight";

Error damaged(const std::string& what) { return {Fault::bad_input, what}; }

template <class T>
Result<T> number(const std::map<std::string, std::string>& metadata, const std::string& key) {
  const auto found = metadata.find(key);
  if (found == metadata.end()) return damaged("the metadata lacks " + key);
  T value{};
  const char* end = found->second.data() + found->second.size();
  const auto [stop, fault] = std::from_chars(found->second.data(), end, value);
  if (fault != std::errc{} || stop != end) return damaged("the metadata's " + key + " is no number");
  return value;
}

std::string text_or(const std::map<std::string, std::string>& metadata, const char* key, std::string fallback) {
  const auto found = metadata.find(key);
  return found == metadata.end() ? fallback : found->second;
}

/// Pairs of A (rank, in) and B (out, rank), nothing else. Gives the names of the adapted modules.
Result<std::set<std::string>> check_pairs(const SafeTensors& adapter, std::int64_t rank) {
  std::set<std::string> modules;
  for (const auto& [name, tensor] : adapter.tensors) {
    const bool is_a = name.ends_with(kSuffixA);
    if (!is_a && !name.ends_with(kSuffixB)) return damaged("the tensor '" + name + "' is no part of a plain LoRA");
    const std::string module = name.substr(0, name.size() - kSuffixA.size());
    if (!adapter.tensors.contains(module + std::string(is_a ? kSuffixB : kSuffixA)))
      return damaged("the tensor '" + name + "' has no partner");
    if (tensor.shape.size() != 2 || tensor.shape[is_a ? 0 : 1] != rank)
      return damaged("the shape of the tensor '" + name + "' does not fit the rank " + std::to_string(rank));
    modules.insert(module.substr(module.rfind('.') + 1));
  }
  if (modules.empty()) return damaged("it holds no adapter");
  return modules;
}

/// The layers that have an adapter, where these are not all from the first on: PEFT would make up the others.
std::set<std::int64_t> partial_layers(const SafeTensors& adapter) {
  constexpr std::string_view kLayers = ".layers.";
  std::set<std::int64_t> layers;
  for (const auto& [name, tensor] : adapter.tensors) {
    const auto at = name.find(kLayers);
    std::int64_t layer = 0;
    if (at == std::string::npos) continue;
    std::from_chars(name.data() + at + kLayers.size(), name.data() + name.size(), layer);
    layers.insert(layer);
  }
  return layers.empty() || *layers.begin() == 0 ? std::set<std::int64_t>{} : layers;
}

/// Brings half-precision tensors to float32. storage keeps what they then point into.
Status widen(SafeTensors& adapter, std::deque<std::vector<float>>& storage) {
  for (auto& [name, tensor] : adapter.tensors) {
    if (tensor.dtype == "F32") continue;
    if (tensor.dtype != "F16" && tensor.dtype != "BF16")
      return damaged("the tensor '" + name + "' is " + tensor.dtype + "; F32, F16 and BF16 are supported");
    const GgmlType type = tensor.dtype == "F16" ? GgmlType::f16 : GgmlType::bf16;
    const std::span data(reinterpret_cast<const std::byte*>(tensor.data.data()), tensor.data.size());
    auto& wide = storage.emplace_back(tensor.data.size() / 2);
    dequantise(GgufTensor{name, type, tensor.shape, data}, 0, tensor.shape.front(), wide.data());
    tensor.dtype = "F32";
    tensor.data = {reinterpret_cast<const char*>(wide.data()), wide.size() * sizeof(float)};
  }
  return Done{};
}

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

Result<PeftConfig> read_config(const std::string& path) {
  const auto file = MappedFile::open(path);
  if (!file) return file.error();
  if (text_of(**file).size() > kConfigBytesMax) return damaged(path + ": is longer than 1 MiB");
  auto config = parse_peft_config(text_of(**file));
  if (!config) return Error{config.error().fault, path + ": " + config.error().message};
  return config;
}

/// The tensors and metadata of a slot, from a checked pair of files.
Result<std::string> assemble(std::string_view bytes, const PeftConfig& config) {
  auto adapter = parse_safetensors(bytes);
  if (!adapter) return adapter.error();
  const auto modules = check_pairs(*adapter, config.rank);
  if (!modules) return modules.error();
  std::deque<std::vector<float>> storage;
  if (auto status = widen(*adapter, storage); !status) return status.error();
  const auto metadata = std::move(adapter->metadata);
  adapter->metadata = {{"rank", std::to_string(config.rank)},
                       {"alpha", number_text(config.alpha)},
                       {"generation", text_or(metadata, "generation", "1")},
                       {"step", text_or(metadata, "step", "0")}};
  // Only a fingerprint tells the base model for certain; the names that other programs write do not.
  if (const auto base = metadata.find("base"); base != metadata.end()) adapter->metadata.insert(*base);
  return write_safetensors(*adapter);
}

}  // namespace

Status export_peft(std::string_view slot_blob, const std::string& directory) {
  auto slot = parse_safetensors(slot_blob);
  if (!slot) return slot.error();
  std::erase_if(slot->tensors, [](const auto& item) { return item.first.starts_with(kMomentum); });
  const auto rank = number<std::int64_t>(slot->metadata, "rank");
  const auto alpha = number<double>(slot->metadata, "alpha");
  if (!rank) return damaged("cannot export the slot: " + rank.error().message);
  if (!alpha) return damaged("cannot export the slot: " + alpha.error().message);
  auto modules = check_pairs(*slot, *rank);
  if (!modules) return damaged("cannot export the slot: " + modules.error().message);
  const PeftConfig config{*rank, *alpha, *std::move(modules), partial_layers(*slot)};
  slot->metadata["format"] = "pt";  // readers of the safetensors library ask for it
  const std::string json = write_peft_config(config), tensors = write_safetensors(*slot);
  return write_whole_directory(directory, {{kConfigFile, json}, {kTensorsFile, tensors}});
}

Result<std::string> import_peft(const std::string& directory) {
  const std::filesystem::path folder(directory);
  const auto config = read_config(folder / kConfigFile);
  if (!config) return config.error();
  const std::string path = folder / kTensorsFile;
  const auto file = MappedFile::open(path);
  std::error_code ignored;
  if (!file && std::filesystem::exists(folder / "adapter_model.bin", ignored))
    return damaged(directory + ": the adapter is a pickle (adapter_model.bin), which is never read; safetensors is");
  if (!file) return file.error();
  auto blob = assemble(text_of(**file), *config);
  if (!blob) return Error{blob.error().fault, path + ": " + blob.error().message};
  return blob;
}

}  // namespace kpool
