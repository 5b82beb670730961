#include "clients/gateway_state.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

namespace kpool {
namespace {

Error failed(const std::string& path, const char* what) {
  const Fault fault = errno == EACCES ? Fault::denied : errno == ENOSPC ? Fault::no_space : Fault::io;
  return {fault, path + ": " + what + ": " + std::strerror(errno)};
}

}  // namespace

Result<GatewayStateFile> GatewayStateFile::open(const std::string& path) {
  const std::string lock_path = path + ".lock";
  const int lock = ::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (lock < 0) return failed(lock_path, "the gateway's state cannot be locked");
  if (::flock(lock, LOCK_EX | LOCK_NB) != 0) {
    ::close(lock);
    return Error{Fault::unavailable, path + ": another kpool-gateway uses this state; give each its own key"};
  }
  return GatewayStateFile(lock, path);
}

GatewayStateFile::GatewayStateFile(GatewayStateFile&& other) noexcept
    : lock_(std::exchange(other.lock_, -1)), path_(std::move(other.path_)) {}

GatewayStateFile::~GatewayStateFile() {
  if (lock_ >= 0) ::close(lock_);
}

Result<GatewayState> GatewayStateFile::load() const {
  std::ifstream in(path_);
  if (!in && errno == ENOENT) return GatewayState{};
  if (!in) return failed(path_, "the gateway's state cannot be read");
  const auto json = nlohmann::json::parse(in, nullptr, false);
  const auto number = [&](const char* name) { return json.contains(name) && json[name].is_number_unsigned(); };
  if (!json.is_object() || !number("epoch") || !number("acked") || !number("refused") ||
      !json.contains("fingerprint") || !json["fingerprint"].is_string() ||
      (json.contains("finished") && !json["finished"].is_boolean())) {
    return Error{Fault::bad_input, path_ + ": the gateway's state is damaged; remove it and give --epoch with a number "
                                           "that was not used yet"};
  }
  return GatewayState{json["epoch"], json["fingerprint"], json["acked"], json["refused"], json.value("finished", true)};
}

Status GatewayStateFile::save(const GatewayState& state) const {
  const nlohmann::json json = {{"epoch", state.epoch}, {"fingerprint", state.fingerprint}, {"acked", state.acked},
                               {"refused", state.refused}, {"finished", state.finished}};
  const std::string text = json.dump() + "\n", fresh = path_ + ".new";
  const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return failed(fresh, "the gateway's state cannot be written");
  const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && ::fsync(fd) == 0;
  const int error = errno;
  ::close(fd);
  errno = error;
  if (!written || ::rename(fresh.c_str(), path_.c_str()) != 0) {
    return failed(fresh, "the gateway's state cannot be written");
  }
  const auto parent = std::filesystem::path(path_).parent_path();
  const int directory = ::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return failed(parent.string(), "the directory of the gateway's state cannot be synced");
  const bool synced = ::fsync(directory) == 0;
  ::close(directory);
  return synced ? Status(Done{}) : Status(failed(path_, "the gateway's state cannot be synced"));
}

GatewayState next_run(const GatewayState& last, const std::string& fingerprint, std::uint64_t forced_epoch) {
  const std::uint64_t epoch = forced_epoch != 0 ? forced_epoch : last.epoch;
  if (epoch == last.epoch && last.epoch != 0 && !fingerprint.empty() && fingerprint == last.fingerprint) return last;
  return {forced_epoch != 0 ? forced_epoch : last.epoch + 1, fingerprint, 0, 0, false};
}

}  // namespace kpool
