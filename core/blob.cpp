#include "core/blob.hpp"

#include <sodium.h>

#include <array>
#include <bit>

namespace kpool {
namespace {

static_assert(std::endian::native == std::endian::little, "blobs are little-endian; so are all our targets");

using Checksum = std::array<unsigned char, 32>;

Checksum checksum(std::string_view bytes) {
  Checksum sum;
  crypto_generichash(sum.data(), sum.size(), reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
                     nullptr, 0);
  return sum;
}

}  // namespace

std::string BlobWriter::close() {
  const Checksum sum = checksum(bytes_);
  bytes_.append(reinterpret_cast<const char*>(sum.data()), sum.size());
  return std::exchange(bytes_, {});
}

Result<BlobReader> BlobReader::open(std::string_view bytes, std::string_view tag, const std::string& what) {
  if (bytes.size() < tag.size() + sizeof(Checksum) || bytes.substr(0, tag.size()) != tag)
    return Error{Fault::bad_input, what + " does not begin with \"" + std::string(tag) + "\""};
  const std::string_view body = bytes.substr(0, bytes.size() - sizeof(Checksum));
  const Checksum sum = checksum(body);
  if (std::memcmp(sum.data(), bytes.data() + body.size(), sum.size()) != 0)
    return Error{Fault::bad_input, what + " fails its checksum"};
  return BlobReader(body.substr(tag.size()));
}

}  // namespace kpool
