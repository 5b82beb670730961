#include "core/gguf_parser.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>

#include "core/quantisation.hpp"

namespace kpool {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF is read as it lies in memory");

constexpr std::uint64_t kEntriesMax = 65536;  // metadata keys; tensors
constexpr std::uint64_t kKeyBytesMax = 65535;
constexpr std::uint64_t kTensorNameBytesMax = 255;
constexpr std::uint64_t kDimensionsMax = 4;
constexpr std::int64_t kElementsMax = std::int64_t{1} << 40;
constexpr std::uint64_t kAlignmentDefault = 32;
constexpr std::int64_t kAlignmentMax = 65536;

enum class Kind : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

/// Bytes of a scalar; 0 for strings, arrays and unknown kinds.
std::uint64_t width_of(Kind kind) {
  switch (kind) {
    case Kind::u8: case Kind::i8: case Kind::boolean: return 1;
    case Kind::u16: case Kind::i16: return 2;
    case Kind::u32: case Kind::i32: case Kind::f32: return 4;
    case Kind::u64: case Kind::i64: case Kind::f64: return 8;
    default: return 0;
  }
}

bool is_real(Kind kind) { return kind == Kind::f32 || kind == Kind::f64; }

// Reads forward through the file. The first failure sticks: later reads give zeros, and the caller asks once.
class Cursor {
 public:
  explicit Cursor(std::span<const std::byte> file) : file_(file) {}

  bool failed() const { return !reason_.empty(); }
  const std::string& reason() const { return reason_; }
  void fail(std::string reason) {
    if (!failed()) reason_ = std::move(reason);
  }
  std::uint64_t position() const { return position_; }
  std::uint64_t remaining() const { return failed() ? 0 : file_.size() - position_; }

  template <class T>
  T scalar() {
    T value{};
    if (remaining() < sizeof(T)) fail("the file is truncated at byte " + std::to_string(position_));
    if (failed()) return T{};
    std::memcpy(&value, file_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  std::string string(std::uint64_t bytes_max, const char* what) {
    const auto length = scalar<std::uint64_t>();
    if (!failed() && (length > bytes_max || length > remaining()))
      fail(std::string("the length of ") + what + " is " + std::to_string(length) + " bytes at byte " +
           std::to_string(position_));
    if (failed()) return {};
    std::string value(reinterpret_cast<const char*>(file_.data() + position_), length);
    position_ += length;
    return value;
  }

  void skip(std::uint64_t bytes) {
    if (bytes > remaining()) fail("the file is truncated at byte " + std::to_string(position_));
    if (!failed()) position_ += bytes;
  }

 private:
  std::span<const std::byte> file_;
  std::uint64_t position_ = 0;
  std::string reason_;
};

std::int64_t integer(Cursor& in, Kind kind) {
  switch (kind) {
    case Kind::u8: return in.scalar<std::uint8_t>();
    case Kind::i8: return in.scalar<std::int8_t>();
    case Kind::u16: return in.scalar<std::uint16_t>();
    case Kind::i16: return in.scalar<std::int16_t>();
    case Kind::u32: return in.scalar<std::uint32_t>();
    case Kind::i32: return in.scalar<std::int32_t>();
    case Kind::boolean: return in.scalar<std::uint8_t>() != 0;
    case Kind::i64: return in.scalar<std::int64_t>();
    default: break;
  }
  const auto value = in.scalar<std::uint64_t>();
  if (value > static_cast<std::uint64_t>(INT64_MAX)) in.fail("an integer in the metadata is above 2^63");
  return static_cast<std::int64_t>(value);
}

GgufValue array_value(Cursor& in, const std::string& key) {
  const auto kind = static_cast<Kind>(in.scalar<std::uint32_t>());
  const auto count = in.scalar<std::uint64_t>();
  const std::uint64_t least_bytes = kind == Kind::string ? 8 : width_of(kind);
  if (least_bytes == 0) in.fail("the array '" + key + "' has elements of an unsupported kind");
  if (!in.failed() && count > in.remaining() / least_bytes) in.fail("the array '" + key + "' is longer than the file");
  if (in.failed()) return std::int64_t{0};
  if (kind == Kind::string) {
    std::vector<std::string> values;
    values.reserve(count);
    for (std::uint64_t i = 0; i < count && !in.failed(); ++i) values.push_back(in.string(UINT64_MAX, "a string"));
    return values;
  }
  std::vector<std::int64_t> values;
  if (is_real(kind)) {
    in.skip(count * least_bytes);
    return values;
  }
  values.reserve(count);
  for (std::uint64_t i = 0; i < count && !in.failed(); ++i) values.push_back(integer(in, kind));
  return values;
}

GgufValue value_of(Cursor& in, const std::string& key) {
  const auto kind = static_cast<Kind>(in.scalar<std::uint32_t>());
  if (kind == Kind::string) return in.string(UINT64_MAX, "a string");
  if (kind == Kind::array) return array_value(in, key);
  if (kind == Kind::f32) return static_cast<double>(in.scalar<float>());
  if (kind == Kind::f64) return in.scalar<double>();
  if (width_of(kind) == 0) in.fail("the key '" + key + "' has a value of an unknown kind");
  return integer(in, kind);
}

struct Header {
  std::uint64_t tensors = 0, keys = 0;
};

Header read_header(Cursor& in) {
  if (in.scalar<std::uint32_t>() != 0x46554747u) in.fail("it does not begin with GGUF");
  const auto version = in.scalar<std::uint32_t>();
  if (version != 2 && version != 3)
    in.fail("GGUF version " + std::to_string(version) + " is not supported (2 and 3 are)");
  Header header;
  header.tensors = in.scalar<std::uint64_t>();
  header.keys = in.scalar<std::uint64_t>();
  if (header.tensors > kEntriesMax) in.fail("it claims " + std::to_string(header.tensors) + " tensors");
  if (header.keys > kEntriesMax) in.fail("it claims " + std::to_string(header.keys) + " metadata keys");
  return header;
}

void read_metadata(Cursor& in, std::uint64_t count, GgufDirectory& out) {
  for (std::uint64_t i = 0; i < count && !in.failed(); ++i) {
    const std::string key = in.string(kKeyBytesMax, "a metadata key");
    auto value = value_of(in, key);
    if (!out.metadata.emplace(key, std::move(value)).second) in.fail("the key '" + key + "' stands there twice");
  }
}

std::uint64_t alignment_of(Cursor& in, const GgufDirectory& directory) {
  const auto found = directory.metadata.find("general.alignment");
  if (found == directory.metadata.end()) return kAlignmentDefault;
  const auto* value = std::get_if<std::int64_t>(&found->second);
  if (!value || *value < 8 || *value > kAlignmentMax || !std::has_single_bit(static_cast<std::uint64_t>(*value))) {
    in.fail("general.alignment is not a power of two from 8 to 65536");
    return kAlignmentDefault;
  }
  return static_cast<std::uint64_t>(*value);
}

/// A tensor's place relative to the data section.
struct Extent {
  std::uint64_t offset = 0, bytes = 0;
};

std::vector<std::int64_t> read_shape(Cursor& in, const std::string& name) {
  const auto dimensions = in.scalar<std::uint32_t>();
  if (dimensions < 1 || dimensions > kDimensionsMax)
    in.fail("the tensor '" + name + "' does not have 1 to 4 dimensions");
  std::vector<std::int64_t> shape;
  std::int64_t elements = 1;
  for (std::uint32_t i = 0; i < dimensions && !in.failed(); ++i) {
    const auto extent = in.scalar<std::uint64_t>();
    if (extent < 1 || extent > static_cast<std::uint64_t>(kElementsMax / elements))
      in.fail("the tensor '" + name + "' has a dimension of " + std::to_string(extent));
    if (in.failed()) break;
    elements *= static_cast<std::int64_t>(extent);
    shape.push_back(static_cast<std::int64_t>(extent));
  }
  std::reverse(shape.begin(), shape.end());
  return shape;
}

Extent read_tensor(Cursor& in, std::uint64_t alignment, GgufTensor& tensor) {
  tensor.name = in.string(kTensorNameBytesMax, "a tensor's name");
  tensor.shape = read_shape(in, tensor.name);
  const auto type = in.scalar<std::uint32_t>();
  const auto offset = in.scalar<std::uint64_t>();
  if (in.failed()) return {};
  const auto layout = block_layout(type);
  const std::string subject = "the tensor '" + tensor.name + "' ";
  if (!layout) {
    in.fail(subject + "has the type " + std::to_string(type) + ", which is not supported");
    return {};
  }
  if (tensor.shape.back() % layout->elements != 0) in.fail(subject + "has rows that are not whole blocks");
  if (offset % alignment != 0) in.fail(subject + "is not aligned");
  tensor.type = static_cast<GgmlType>(type);
  std::int64_t elements = 1;
  for (const auto extent : tensor.shape) elements *= extent;
  return {offset, static_cast<std::uint64_t>(elements / layout->elements * layout->bytes)};
}

void check_overlap(Cursor& in, const std::vector<Extent>& extents, const std::vector<GgufTensor>& tensors) {
  std::vector<std::size_t> order(extents.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](auto a, auto b) { return extents[a].offset < extents[b].offset; });
  for (std::size_t i = 1; i < order.size(); ++i) {
    const auto &before = extents[order[i - 1]], &after = extents[order[i]];
    if (before.offset + before.bytes > after.offset)
      in.fail("the tensors '" + tensors[order[i - 1]].name + "' and '" + tensors[order[i]].name + "' overlap");
  }
}

void read_tensors(Cursor& in, std::span<const std::byte> file, std::uint64_t count, GgufDirectory& out) {
  const auto alignment = alignment_of(in, out);
  std::vector<Extent> extents;
  std::set<std::string_view> names;
  out.tensors.resize(in.failed() ? 0 : count);
  for (auto& tensor : out.tensors) {
    extents.push_back(read_tensor(in, alignment, tensor));
    if (in.failed()) return;
    if (!names.insert(tensor.name).second) in.fail("the tensor '" + tensor.name + "' stands there twice");
  }
  if (in.failed()) return;
  const std::uint64_t begin = (in.position() + alignment - 1) / alignment * alignment;
  const std::uint64_t room = begin <= file.size() ? file.size() - begin : 0;
  for (std::size_t i = 0; i < extents.size(); ++i) {
    const auto [offset, bytes] = extents[i];
    if (offset > room || bytes > room - offset)
      in.fail("the tensor '" + out.tensors[i].name + "' ends beyond the file");
    if (in.failed()) return;
    out.tensors[i].data = file.subspan(begin + offset, bytes);
  }
  check_overlap(in, extents, out.tensors);
}

}  // namespace

Result<GgufDirectory> parse_gguf(std::span<const std::byte> file) {
  Cursor in(file);
  GgufDirectory directory;
  const auto header = read_header(in);
  read_metadata(in, header.keys, directory);
  if (!in.failed()) read_tensors(in, file, header.tensors, directory);
  if (in.failed()) return Error{Fault::bad_input, in.reason()};
  return directory;
}

}  // namespace kpool
