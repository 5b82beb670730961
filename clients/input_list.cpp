#include "clients/input_list.hpp"

#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

namespace kpool {
namespace {

namespace fs = std::filesystem;

Status add_file(InputList& list, const std::string& path, std::string& described) {
  struct stat status;
  if (::stat(path.c_str(), &status) != 0 || ::access(path.c_str(), R_OK) != 0) {
    const Fault fault = errno == ENOENT ? Fault::missing : Fault::denied;
    return Error{fault, path + ": cannot be read: " + std::strerror(errno)};
  }
  list.files.push_back(path);
  list.bytes += S_ISREG(status.st_mode) ? static_cast<std::uint64_t>(status.st_size) : 0;
  std::error_code error;
  described += fs::absolute(path, error).lexically_normal().string() + '\0' + std::to_string(status.st_size) + '\0' +
               std::to_string(status.st_mtim.tv_sec) + '.' + std::to_string(status.st_mtim.tv_nsec) + '\0';
  return Done{};
}

Status add_directory(InputList& list, const std::string& path, std::string& described) {
  std::vector<std::string> files;
  std::error_code error;
  for (fs::recursive_directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    const bool hidden = it->path().filename().string().starts_with('.');
    if (it->is_directory() && hidden) it.disable_recursion_pending();
    if (it->is_regular_file() && !hidden) files.push_back(it->path().string());
  }
  if (error) return Error{Fault::denied, path + ": cannot be listed: " + error.message()};
  std::sort(files.begin(), files.end());
  for (const auto& file : files) {
    if (auto added = add_file(list, file, described); !added) return added;
  }
  return Done{};
}

std::string hash(const std::string& text) {
  std::array<unsigned char, 16> digest;
  crypto_generichash(digest.data(), digest.size(), reinterpret_cast<const unsigned char*>(text.data()), text.size(),
                     nullptr, 0);
  std::string hex(2 * digest.size() + 1, '\0');
  sodium_bin2hex(hex.data(), hex.size(), digest.data(), digest.size());
  hex.pop_back();
  return hex;
}

}  // namespace

Result<InputList> list_inputs(const std::vector<std::string>& paths, const RecordReaderOptions& options) {
  InputList list;
  std::string described = std::to_string(static_cast<int>(options.kind)) + (options.strict ? "strict" : "");
  bool standard_input = false;
  for (const auto& path : paths) {
    std::error_code error;
    if (path == "-") {
      if (std::exchange(standard_input, true)) return Error{Fault::usage, "standard input (-) is named twice"};
      list.files.push_back(path);
      continue;
    }
    const auto added = fs::is_directory(path, error) ? add_directory(list, path, described)
                                                     : add_file(list, path, described);
    if (!added) return added.error();
  }
  if (list.files.empty()) return Error{Fault::usage, "there is no file to send"};
  if (!standard_input) list.fingerprint = hash(described);
  return list;
}

}  // namespace kpool
