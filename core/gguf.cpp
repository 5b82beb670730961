#include "core/gguf.hpp"

#include <sodium.h>

#include <algorithm>
#include <map>
#include <mutex>

#include "core/gguf_parser.hpp"
#include "core/mapped_file.hpp"

namespace kpool {
namespace {

/// Gives back what it has read, so that a model of many gigabytes is never resident as a whole.
std::string sha256_hex(const MappedFile& file) {
  constexpr std::size_t kPiece = 16u << 20;
  const auto bytes = file.bytes();
  crypto_hash_sha256_state state;
  crypto_hash_sha256_init(&state);
  for (std::size_t first = 0; first < bytes.size(); first += kPiece) {
    const auto piece = bytes.subspan(first, std::min(kPiece, bytes.size() - first));
    crypto_hash_sha256_update(&state, reinterpret_cast<const unsigned char*>(piece.data()), piece.size());
    file.release(first, first + piece.size());
  }
  unsigned char digest[crypto_hash_sha256_BYTES];
  crypto_hash_sha256_final(&state, digest);
  char hex[2 * sizeof digest + 1];
  return sodium_bin2hex(hex, sizeof hex, digest, sizeof digest);
}

}  // namespace

struct Gguf::Contents {
  std::string path;
  std::unique_ptr<const MappedFile> file;
  GgufDirectory directory;
  std::map<std::string_view, const GgufTensor*> by_name;
  std::once_flag fingerprint_once;  // hashing takes longer than everything else; many users never ask
  std::string fingerprint;

  template <class T>
  const T* value(std::string_view key) const {
    const auto found = directory.metadata.find(key);
    return found == directory.metadata.end() ? nullptr : std::get_if<T>(&found->second);
  }
};

Gguf::Gguf() : contents_(std::make_unique<Contents>()) {}
Gguf::~Gguf() = default;

Result<std::shared_ptr<const Gguf>> Gguf::open(const std::string& path) {
  auto file = MappedFile::open(path);
  if (!file) return file.error();
  auto directory = parse_gguf((*file)->bytes());
  if (!directory)
    return Error{directory.error().fault, path + ": is no usable GGUF file: " + directory.error().message};
  std::shared_ptr<Gguf> gguf(new Gguf);
  auto& contents = *gguf->contents_;
  contents.path = path;
  contents.file = *std::move(file);
  contents.directory = *std::move(directory);
  for (const auto& tensor : contents.directory.tensors) contents.by_name.emplace(tensor.name, &tensor);
  return std::shared_ptr<const Gguf>(std::move(gguf));
}

std::optional<std::int64_t> Gguf::integer(std::string_view key) const {
  const auto* value = contents_->value<std::int64_t>(key);
  return value ? std::optional(*value) : std::nullopt;
}

std::optional<double> Gguf::real(std::string_view key) const {
  const auto* value = contents_->value<double>(key);
  return value ? std::optional(*value) : std::nullopt;
}

std::optional<std::string> Gguf::text(std::string_view key) const {
  const auto* value = contents_->value<std::string>(key);
  return value ? std::optional(*value) : std::nullopt;
}

std::vector<std::string> Gguf::texts(std::string_view key) const {
  const auto* value = contents_->value<std::vector<std::string>>(key);
  return value ? *value : std::vector<std::string>{};
}

std::vector<std::int64_t> Gguf::integers(std::string_view key) const {
  const auto* value = contents_->value<std::vector<std::int64_t>>(key);
  return value ? *value : std::vector<std::int64_t>{};
}

const GgufTensor* Gguf::find(std::string_view name) const {
  const auto found = contents_->by_name.find(name);
  return found == contents_->by_name.end() ? nullptr : found->second;
}

const std::vector<GgufTensor>& Gguf::tensors() const { return contents_->directory.tensors; }
const std::string& Gguf::path() const { return contents_->path; }

void Gguf::release() const { contents_->file->release(0, contents_->file->bytes().size()); }

const std::string& Gguf::fingerprint() const {
  auto& contents = *contents_;
  std::call_once(contents.fingerprint_once, [&] { contents.fingerprint = sha256_hex(*contents.file); });
  return contents.fingerprint;
}

}  // namespace kpool
