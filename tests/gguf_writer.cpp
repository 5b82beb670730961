#include "tests/gguf_writer.hpp"

#include <fstream>

namespace kpool::testing {
namespace {

constexpr std::uint64_t kAlignment = 32;

enum Kind : std::uint32_t { kU32 = 4, kI32 = 5, kF32 = 6, kBool = 7, kString = 8, kArray = 9, kI64 = 11 };

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void put_string(std::string& out, std::string_view value) {
  put<std::uint64_t>(out, value.size());
  out.append(value);
}

template <class T>
void put_array(std::string& out, std::uint32_t kind, const std::vector<T>& values) {
  put(out, kind);
  put<std::uint64_t>(out, values.size());
  for (const auto& value : values) put(out, value);
}

std::uint64_t padded(std::uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

void GgufWriter::key(std::string_view name, std::uint32_t kind) {
  ++keys_;
  put_string(metadata_, name);
  put(metadata_, kind);
}

GgufWriter& GgufWriter::integer(std::string_view name, std::int64_t value) {
  key(name, kI64);
  put(metadata_, value);
  return *this;
}

GgufWriter& GgufWriter::word(std::string_view name, std::uint32_t value) {
  key(name, kU32);
  put(metadata_, value);
  return *this;
}

GgufWriter& GgufWriter::real(std::string_view name, float value) {
  key(name, kF32);
  put(metadata_, value);
  return *this;
}

GgufWriter& GgufWriter::flag(std::string_view name, bool value) {
  key(name, kBool);
  put<std::uint8_t>(metadata_, value);
  return *this;
}

GgufWriter& GgufWriter::text(std::string_view name, std::string_view value) {
  key(name, kString);
  put_string(metadata_, value);
  return *this;
}

GgufWriter& GgufWriter::texts(std::string_view name, const std::vector<std::string>& values) {
  key(name, kArray);
  put<std::uint32_t>(metadata_, kString);
  put<std::uint64_t>(metadata_, values.size());
  for (const auto& value : values) put_string(metadata_, value);
  return *this;
}

GgufWriter& GgufWriter::integers(std::string_view name, const std::vector<std::int32_t>& values) {
  key(name, kArray);
  put_array(metadata_, kI32, values);
  return *this;
}

GgufWriter& GgufWriter::reals(std::string_view name, const std::vector<float>& values) {
  key(name, kArray);
  put_array(metadata_, kF32, values);
  return *this;
}

GgufWriter& GgufWriter::tensor(std::string_view name, std::vector<std::int64_t> shape,
                               const std::vector<float>& values) {
  std::string data(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  return raw_tensor(name, GgmlType::f32, std::move(shape), std::move(data));
}

GgufWriter& GgufWriter::raw_tensor(std::string_view name, GgmlType type, std::vector<std::int64_t> shape,
                                   std::string data) {
  const std::uint64_t place = end_;
  end_ = padded(end_ + data.size());
  tensors_.push_back({std::string(name), type, std::move(shape), place, std::move(data)});
  return *this;
}

GgufWriter& GgufWriter::offset(std::uint64_t bytes) {
  tensors_.back().offset = bytes;
  return *this;
}

std::string GgufWriter::bytes() const {
  std::string out = "GGUF";
  put(out, version_);
  put<std::uint64_t>(out, tensors_.size());
  put(out, keys_);
  out += metadata_;
  for (const auto& tensor : tensors_) {
    put_string(out, tensor.name);
    put<std::uint32_t>(out, static_cast<std::uint32_t>(tensor.shape.size()));
    for (auto extent = tensor.shape.rbegin(); extent != tensor.shape.rend(); ++extent) put<std::uint64_t>(out, *extent);
    put<std::uint32_t>(out, static_cast<std::uint32_t>(tensor.type));
    put(out, tensor.offset);
  }
  for (const auto& tensor : tensors_) {
    out.resize(padded(out.size()));
    out += tensor.data;
  }
  return out;
}

void GgufWriter::write(const std::string& path) const {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  const auto content = bytes();
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
  KPOOL_ASSERT(file.flush().good());
}

}  // namespace kpool::testing
