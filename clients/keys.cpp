#include "clients/keys.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace kpool {
namespace {

constexpr std::size_t key_length = 40;

bool is_key(const std::string& text) {
  std::array<std::uint8_t, 32> raw;
  return text.size() == key_length && text.find('\0') == std::string::npos &&
         zmq_z85_decode(raw.data(), text.c_str()) != nullptr;
}

Error failed(const std::string& path, const char* what) {
  const Fault fault = errno == ENOENT ? Fault::missing : errno == EACCES ? Fault::denied : Fault::io;
  return {fault, path + ": " + what + ": " + std::strerror(errno)};
}

// Durable before it is used: a key that a crash took back would lock its owner out.
Status write_new_file(const std::string& path, const std::string& content, mode_t mode) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (fd < 0 && errno == EEXIST) {
    return Error{Fault::bad_input, path + ": exists already, and a key is never overwritten"};
  }
  if (fd < 0) return failed(path, "the key cannot be written");
  const bool written = ::write(fd, content.data(), content.size()) == static_cast<ssize_t>(content.size());
  const bool done = written && ::fsync(fd) == 0;
  Status status = done ? Status(Done{}) : Status(failed(path, "the key cannot be written"));
  ::close(fd);
  return status;
}

Result<std::string> read_small_file(const std::string& path, const char* what) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return failed(path, what);
  std::string text(1u << 20, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad() || in.gcount() == 0) return Error{Fault::bad_input, path + ": is empty or no regular file"};
  text.resize(static_cast<std::size_t>(in.gcount()));
  return text;
}

constexpr const char* secret_key_hint = "; a secret key is a file NAME.key that `kpoolctl keys new` makes";

/// systemd hands credentials to the service's user alone, but by an access list, which stat shows as group-readable.
mode_t forbidden_mode(const std::string& path) {
  const char* directory = std::getenv("CREDENTIALS_DIRECTORY");
  return directory != nullptr && path.starts_with(std::string(directory) + "/") ? 037 : 077;
}

/// Says what a file is before its mode is judged: "chmod 600" would help neither a directory nor a NAME.pub.
Result<std::string> read_secret_file(const std::string& path) {
  struct stat status;
  if (::stat(path.c_str(), &status) != 0) return failed(path, "the key cannot be read");
  if (S_ISDIR(status.st_mode)) return Error{Fault::bad_input, path + ": is a directory" + secret_key_hint};
  if (!S_ISREG(status.st_mode)) return Error{Fault::bad_input, path + ": is no regular file" + secret_key_hint};
  auto text = read_small_file(path, "the key cannot be read");
  if (!text) return text.error();
  if (is_key(text->substr(0, text->find('\n'))))
    return Error{Fault::bad_input, path + ": holds a public key alone" + secret_key_hint};
  if (text->find("secret ") == std::string::npos)
    return Error{Fault::bad_input, path + ": holds no secret key" + secret_key_hint};
  if ((status.st_mode & forbidden_mode(path)) != 0)
    return Error{Fault::denied, path + ": others may read this secret key; chmod 600 it, or make a new one"};
  return text;
}

}  // namespace

Result<KeyPair> create_keys(const std::string& directory, const std::string& name) {
  if (name.empty() || name.find_first_of("/ \t\n") != std::string::npos || name[0] == '#') {
    return Error{Fault::bad_input, "\"" + name + "\" is no name for a key: it may hold no space or slash"};
  }
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return Error{Fault::io, directory + ": the directory cannot be made: " + error.message()};
  char public_key[key_length + 1], secret_key[key_length + 1];
  if (zmq_curve_keypair(public_key, secret_key) != 0) {
    return Error{Fault::internal, std::string("libzmq makes no keys: ") + zmq_strerror(errno)};
  }
  KeyPair keys{public_key, secret_key};
  const std::string stem = (std::filesystem::path(directory) / name).string();
  if (auto done = write_new_file(stem + ".key", "# secret: for its owner alone\npublic " + keys.public_key +
                                                    "\nsecret " + keys.secret_key + "\n", 0600); !done) {
    return done.error();
  }
  if (auto done = write_new_file(stem + ".pub", keys.public_key + "\n", 0644); !done) return done.error();
  return keys;
}

Result<KeyPair> read_keys(const std::string& path) {
  auto text = read_secret_file(path);
  if (!text) return text.error();
  KeyPair keys;
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("public ")) keys.public_key = line.substr(7);
    if (line.starts_with("secret ")) keys.secret_key = line.substr(7);
  }
  if (!is_key(keys.public_key) || !is_key(keys.secret_key)) {
    return Error{Fault::bad_input, path + ": no key pair; it should hold the lines \"public KEY\" and \"secret KEY\""};
  }
  char derived[key_length + 1];
  if (zmq_curve_public(derived, keys.secret_key.c_str()) != 0 || keys.public_key != derived) {
    return Error{Fault::bad_input, path + ": the public key does not belong to the secret key"};
  }
  return keys;
}

Result<std::string> read_public_key(const std::string& path_or_key) {
  std::error_code error;
  if (!std::filesystem::exists(path_or_key, error)) {
    if (is_key(path_or_key)) return path_or_key;
    return Error{Fault::missing, path_or_key + ": neither a file nor a public key of 40 characters"};
  }
  auto text = read_small_file(path_or_key, "the public key cannot be read");
  if (!text) return text.error();
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("public ")) line = line.substr(7);  // a NAME.key will do as well
    if (is_key(line)) return line;
  }
  return Error{Fault::bad_input, path_or_key + ": holds no public key, which is a line of 40 characters"};
}

Result<std::map<std::string, std::string>> read_authorized_keys(const std::string& path) {
  auto text = read_small_file(path, "the list of authorized keys cannot be read");
  if (!text) return text.error();
  std::map<std::string, std::string> names;
  std::istringstream lines(*text);
  std::size_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    // A '#' may be part of a key, so a comment is a whole line.
    std::istringstream words(line);
    std::string name, key, more;
    if (!(words >> name) || name[0] == '#') continue;
    const std::string where = path + ":" + std::to_string(number) + ": ";
    if (!(words >> key) || (words >> more)) {
      return Error{Fault::bad_input, where + "not of the form \"name public-key\""};
    }
    if (!is_key(key)) return Error{Fault::bad_input, where + "the key of \"" + name + "\" is not 40 characters of Z85"};
    if (!names.emplace(key, name).second) {
      return Error{Fault::bad_input, where + "the key of \"" + name + "\" was already given to \"" + names[key] + "\""};
    }
  }
  return names;
}

}  // namespace kpool
