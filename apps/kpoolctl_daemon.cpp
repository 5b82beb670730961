#include "apps/kpoolctl_daemon.hpp"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <zmq.hpp>

namespace kpool {
namespace {

using namespace std::chrono_literals;

/// libzmq connects in the background and never says that nobody listens, so a plain connection asks first.
Status somebody_listens(const std::string& address) {
  constexpr std::string_view ipc = "ipc://";
  if (!address.starts_with(ipc)) return Error{Fault::usage, "--socket " + address + " does not begin with ipc://"};
  const std::string path = address.substr(ipc.size());
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof name.sun_path)
    return Error{Fault::usage, "--socket " + address + ": a Unix socket's path has 1 to " +
                                   std::to_string(sizeof name.sun_path - 1) + " characters"};
  std::memcpy(name.sun_path, path.data(), path.size());
  const int probe = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (probe < 0) return Error{Fault::io, std::string("no socket can be opened: ") + std::strerror(errno)};
  const int failure = ::connect(probe, reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0 ? 0 : errno;
  ::close(probe);
  if (failure == 0) return Done{};
  if (failure == EACCES)
    return Error{Fault::denied, "the daemon's socket " + address +
                                    " is not open to this user: join the group that owns it"};
  return Error{Fault::unavailable, "no daemon listens on " + address + " (" + std::strerror(failure) +
                                       "): start kpoold, or name its admin.socket with --socket"};
}

Result<admin::Message> exchange(const std::string& address, const admin::Message& question,
                                std::chrono::milliseconds patience) {
  zmq::context_t context;
  zmq::socket_t socket(context, zmq::socket_type::dealer);
  socket.set(zmq::sockopt::linger, 0);
  socket.set(zmq::sockopt::maxmsgsize, static_cast<std::int64_t>(admin::frame_bytes_max));
  socket.set(zmq::sockopt::sndtimeo, static_cast<int>(patience.count()));
  socket.set(zmq::sockopt::rcvtimeo, static_cast<int>(patience.count()));
  socket.connect(address);
  const Frame frame = admin::encode(question);
  zmq::message_t answer;
  if (!socket.send(zmq::buffer(frame.bytes().data(), frame.bytes().size())) || !socket.recv(answer))
    return Error{Fault::unavailable, "the daemon on " + address + " does not answer within " +
                                         std::to_string(patience.count() / 1000.0).substr(0, 4) + " s"};
  auto message = admin::decode(Frame::copy({answer.data<std::byte>(), answer.size()}));
  if (!message)
    return Error{Fault::bad_input,
                 "what answers on " + address + " is no kpoold of this version: " + message.error().message};
  return message;
}

}  // namespace

Result<admin::Message> ask_daemon(const std::string& socket, const admin::Message& question,
                                  std::chrono::milliseconds patience) {
  if (auto there = somebody_listens(socket); !there) return there.error();
  try {
    return exchange(socket, question, patience);
  } catch (const zmq::error_t& error) {
    return Error{Fault::unavailable, "cannot talk to the daemon on " + socket + ": " + error.what()};
  }
}

}  // namespace kpool
