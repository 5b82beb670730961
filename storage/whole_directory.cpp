#include "storage/whole_directory.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

namespace kpool {
namespace {

namespace fs = std::filesystem;

Error failure(const char* what, const fs::path& path, int code) {
  const bool full = code == ENOSPC || code == EDQUOT;
  return {full ? Fault::no_space : Fault::io, "cannot " + std::string(what) + " " + path.string() + ": " +
                                                  std::strerror(code)};
}

bool write_all(int file, std::string_view content) {
  while (!content.empty()) {
    const auto written = ::write(file, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    content.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

Status write_file(const fs::path& path, std::string_view content) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file < 0) return failure("create", path, errno);
  const bool written = write_all(file, content) && ::fsync(file) == 0;
  const int code = errno;
  ::close(file);
  if (!written) return failure("write", path, code);
  return Done{};
}

Status sync_directory(const fs::path& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool synced = file >= 0 && ::fsync(file) == 0;
  const int code = errno;
  if (file >= 0) ::close(file);
  if (!synced) return failure("sync the directory", path, code);
  return Done{};
}

Status write_files(const fs::path& partial, const std::map<std::string, std::string_view>& files) {
  std::error_code code;
  fs::remove_all(partial, code);
  fs::create_directories(partial, code);
  if (code) return failure("create the directory", partial, code.value());
  for (const auto& [name, content] : files)
    if (auto status = write_file(partial / name, content); !status) return status;
  return sync_directory(partial);
}

}  // namespace

Status write_whole_directory(const std::string& directory, const std::map<std::string, std::string_view>& files) {
  fs::path target = fs::path(directory).lexically_normal();
  if (!target.has_filename()) target = target.parent_path();  // a slash at the end
  if (target.empty()) return Error{Fault::usage, "the directory to write has no name"};
  std::error_code code;
  if (fs::exists(target, code) && !(fs::is_directory(target, code) && fs::is_empty(target, code)))
    return Error{Fault::usage, target.string() + " exists already and is not an empty directory"};
  const fs::path partial = target.string() + ".partial";
  Status status = write_files(partial, files);
  if (status && ::rename(partial.c_str(), target.c_str()) != 0) status = failure("rename to", target, errno);
  if (!status) {
    fs::remove_all(partial, code);
    return status;
  }
  return sync_directory(target.has_parent_path() ? target.parent_path() : ".");
}

}  // namespace kpool
