@0xb678360c81908a02;
# Between kpoolctl and the daemon, over a Unix socket whose permissions are the authority.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("kpool::schema::admin");

struct Envelope {
  union {
    status @0 :Void;          # kpoolctl -> daemon
    report @1 :Text;          # daemon -> kpoolctl: JSON
    snapshot @2 :Text;        # kpoolctl -> daemon: directory to create
    done @3 :Text;            # daemon -> kpoolctl: empty, or the error
    change @4 :Change;        # kpoolctl -> daemon
  }
}

struct Change {
  slot @0 :UInt32;
  what @1 :UInt8;             # SlotChange
}
