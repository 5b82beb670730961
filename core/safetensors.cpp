#include "core/safetensors.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/safetensors_header.hpp"
#include "core/unicode.hpp"

namespace kpool {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are read and written as they lie in memory");

constexpr std::uint64_t kHeaderBytesMax = 100'000'000;
constexpr std::size_t kHeaderAlignment = 8;

Error damaged(const std::string& what) { return {Fault::bad_input, "no usable safetensors: " + what}; }

/// Bytes of an element; 0 for an unknown type.
std::uint64_t element_bytes(std::string_view dtype) {
  static constexpr std::pair<std::string_view, std::uint64_t> kTypes[] = {
      {"F64", 8}, {"I64", 8}, {"U64", 8}, {"F32", 4}, {"I32", 4},  {"U32", 4},     {"F16", 2},    {"BF16", 2},
      {"I16", 2}, {"U16", 2}, {"I8", 1},  {"U8", 1},  {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};
  for (const auto& [name, bytes] : kTypes)
    if (name == dtype) return bytes;
  return 0;
}

/// Nothing where the product does not fit.
std::optional<std::uint64_t> tensor_bytes(std::string_view dtype, const std::vector<std::int64_t>& shape) {
  std::uint64_t bytes = element_bytes(dtype);
  for (const std::int64_t extent : shape)
    if (extent < 0 || __builtin_mul_overflow(bytes, static_cast<std::uint64_t>(extent), &bytes)) return std::nullopt;
  return bytes;
}

Status check_extents(const std::map<std::string, SafetensorsEntry>& entries, std::uint64_t size) {
  std::vector<const std::pair<const std::string, SafetensorsEntry>*> order;
  for (const auto& item : entries) order.push_back(&item);
  std::sort(order.begin(), order.end(), [](auto* a, auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  std::uint64_t end = 0;
  for (const auto* item : order) {
    const auto& [name, entry] = *item;
    const std::string subject = "the tensor '" + name + "' ";
    if (element_bytes(entry.dtype) == 0) return damaged(subject + "has the unknown type '" + entry.dtype + "'");
    if (entry.begin > entry.end || entry.end > size) return damaged(subject + "lies beyond the data");
    if (entry.begin < end) return damaged(subject + "overlaps another");
    if (entry.begin > end) return damaged("there is a gap before " + subject);
    if (tensor_bytes(entry.dtype, entry.shape) != entry.end - entry.begin)
      return damaged(subject + "has not as many bytes as its shape asks for");
    end = entry.end;
  }
  if (end != size) return damaged("there are bytes behind the last tensor");
  return Done{};
}

}  // namespace

Result<SafeTensors> parse_safetensors(std::string_view bytes) {
  std::uint64_t header_bytes = 0;
  if (bytes.size() < sizeof header_bytes) return damaged("it is shorter than 8 bytes");
  std::memcpy(&header_bytes, bytes.data(), sizeof header_bytes);
  bytes.remove_prefix(sizeof header_bytes);
  if (header_bytes > kHeaderBytesMax) return damaged("its header is longer than 100 MB");
  if (header_bytes > bytes.size()) return damaged("it ends inside its header");
  auto header = parse_safetensors_header(bytes.substr(0, header_bytes));
  if (!header) return damaged(header.error().message);
  const std::string_view data = bytes.substr(header_bytes);
  if (auto status = check_extents(header->entries, data.size()); !status) return status.error();
  SafeTensors contents;
  contents.metadata = std::move(header->metadata);
  for (auto& [name, entry] : header->entries)
    contents.tensors[name] = {entry.dtype, std::move(entry.shape), data.substr(entry.begin, entry.end - entry.begin)};
  return contents;
}

std::string write_safetensors(const SafeTensors& contents) {
  // The widest elements come first, so that every tensor is aligned to its own.
  std::vector<const std::pair<const std::string, SafeTensor>*> order;
  for (const auto& item : contents.tensors) order.push_back(&item);
  std::stable_sort(order.begin(), order.end(),
                   [](auto* a, auto* b) { return element_bytes(a->second.dtype) > element_bytes(b->second.dtype); });
  nlohmann::json header = nlohmann::json::object();
  if (!contents.metadata.empty()) header["__metadata__"] = contents.metadata;
  std::uint64_t end = 0;
  for (const auto* item : order) {
    const auto& [name, tensor] = *item;
    KPOOL_ASSERT(name != "__metadata__" && is_utf8(name) && element_bytes(tensor.dtype) > 0);
    KPOOL_ASSERT(tensor_bytes(tensor.dtype, tensor.shape) == tensor.data.size());
    const std::uint64_t begin = std::exchange(end, end + tensor.data.size());
    header[name] = {{"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + kHeaderAlignment - 1) / kHeaderAlignment * kHeaderAlignment, ' ');
  const std::uint64_t header_bytes = text.size();
  KPOOL_ASSERT(header_bytes <= kHeaderBytesMax);
  std::string out;
  out.reserve(sizeof header_bytes + text.size() + end);
  out.append(reinterpret_cast<const char*>(&header_bytes), sizeof header_bytes);
  out += text;
  for (const auto* item : order) out += item->second.data;
  return out;
}

}  // namespace kpool
