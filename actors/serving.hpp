// Serving: answers operators. Owns the last report of every stage and who waits for a snapshot or change.
// A stage: one thread, no socket (admin_door.hpp has the socket and calls on_admin).
#pragma once

#include <functional>
#include <map>

#include "actors/stage.hpp"
#include "messages/admin.hpp"

namespace kpool {

using AdminSend = std::function<bool(const std::string& route, const admin::Message& message)>;

class Serving : public Stage {
 public:
  /// about: a JSON object of what does not change (version, model, settings).
  Serving(std::string about, AdminSend send) : about_(std::move(about)), send_(std::move(send)) {}
  StageId id() const override { return StageId::serving; }
  Status on_message(pipeline::Message message, Outbox& out) override;
  std::string report() const override;
  void on_admin(const std::string& route, Result<admin::Message> message, Outbox& out);

 private:
  const std::string about_;
  const AdminSend send_;
  std::map<std::string, std::string> reports_;           ///< stage -> JSON
  std::map<std::uint64_t, std::string> routes_;          ///< of snapshots and changes that are not yet done
  std::uint64_t next_ = 1;
  const Clock::time_point started_ = Clock::now();
};

}  // namespace kpool
