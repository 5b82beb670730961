#include "clients/line_reader.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace kpool {
namespace {

constexpr std::size_t chunk_bytes = 1u << 18;

Error failed(const std::string& path, const char* what) {
  const Fault fault = errno == ENOENT ? Fault::missing : errno == EACCES ? Fault::denied : Fault::io;
  return {fault, path + ": " + what + ": " + std::strerror(errno)};
}

}  // namespace

Result<LineReader> LineReader::open(const std::string& path) {
  if (path == "-") return LineReader(STDIN_FILENO, "standard input");
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return failed(path, "cannot be opened");
  return LineReader(fd, path);
}

LineReader::LineReader(LineReader&& other) noexcept : fd_(-1) { *this = std::move(other); }

LineReader& LineReader::operator=(LineReader&& other) noexcept {
  std::swap(fd_, other.fd_);
  path_ = std::move(other.path_);
  buffer_ = std::move(other.buffer_);
  begin_ = other.begin_;
  searched_ = other.searched_;
  number_ = other.number_;
  bytes_ = other.bytes_;
  end_ = other.end_;
  skipping_ = other.skipping_;
  return *this;
}

LineReader::~LineReader() {
  if (fd_ > STDIN_FILENO) ::close(fd_);
}

Result<bool> LineReader::fill() {
  pollfd ready{fd_, POLLIN, 0};
  if (::poll(&ready, 1, 0) == 0) return false;
  buffer_.erase(0, begin_);
  searched_ -= begin_;
  begin_ = 0;
  const std::size_t size = buffer_.size();
  buffer_.resize(size + chunk_bytes);
  const ssize_t got = ::read(fd_, buffer_.data() + size, chunk_bytes);
  const int error = errno;
  buffer_.resize(size + (got > 0 ? static_cast<std::size_t>(got) : 0));
  if (got < 0) {
    errno = error;
    if (error == EINTR || error == EAGAIN) return false;
    return failed(path_, "cannot be read");
  }
  end_ = got == 0;
  return !end_;
}

Result<LineReader::State> LineReader::next(std::string_view& line) {
  for (;;) {
    const auto newline = buffer_.find('\n', searched_);
    const bool last = newline == std::string::npos && end_ && (begin_ < buffer_.size() || skipping_);
    if (newline != std::string::npos || last) {
      const std::size_t stop = last ? buffer_.size() : newline;
      line = std::string_view(buffer_).substr(begin_, stop - begin_);
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (number_ == 0 && line.starts_with("\xEF\xBB\xBF")) line.remove_prefix(3);
      bytes_ += stop - begin_ + (last ? 0 : 1);
      begin_ = searched_ = last ? stop : stop + 1;
      ++number_;
      return std::exchange(skipping_, false) || line.size() > line_bytes_max ? State::too_long : State::line;
    }
    if (end_) return State::end;
    searched_ = buffer_.size();
    if (buffer_.size() - begin_ > line_bytes_max) {  // let go of what is too long to be of use
      skipping_ = true;
      bytes_ += buffer_.size() - begin_;
      begin_ = buffer_.size();
    }
    auto more = fill();
    if (!more) return more.error();
    if (!*more && !end_) return State::nothing_yet;
  }
}

Result<char> LineReader::peek() {
  for (;;) {
    std::size_t at = begin_;
    if (number_ == 0 && std::string_view(buffer_).substr(begin_).starts_with("\xEF\xBB\xBF")) at += 3;
    at = buffer_.find_first_not_of(" \t\r\n", at);
    if (at != std::string::npos) return buffer_[at];
    if (end_ || buffer_.size() - begin_ > chunk_bytes) return end_ ? ' ' : '\n';
    auto more = fill();
    if (!more) return more.error();
    if (!*more && !end_) return '\0';
  }
}

}  // namespace kpool
