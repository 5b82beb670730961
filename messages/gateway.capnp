@0xceabb45c39c6d9f3;
# The public protocol between a gateway and the daemon, version 1 (docs/protocol.md).
# One Envelope is one ZeroMQ message part, DEALER at the gateway, ROUTER at the daemon, under CURVE.
# The source's name is its public key as the handshake proved it; no message carries it.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("kpool::schema::gateway");

struct Envelope {
  union {
    hello @0 :Hello;      # gateway -> daemon
    welcome @1 :Welcome;  # daemon -> gateway
    data @2 :Batch;       # gateway -> daemon
    flush @3 :Flush;      # gateway -> daemon
    ack @4 :Ack;          # daemon -> gateway
    refuse @5 :Refuse;    # daemon -> gateway
    ping @6 :Void;        # gateway -> daemon: answered by an ack
  }
}

struct Hello {
  version @0 :UInt16;
  epoch @1 :UInt64;         # incarnation of the source's numbering: seq restarts at 1 when it grows
  lastAcked @2 :UInt64;     # highest seq of this epoch whose ack the gateway has seen
  firstUnacked @3 :UInt64;  # lowest seq that the gateway still holds
}

struct Welcome {
  version @0 :UInt16;
  epoch @1 :UInt64;
  watermark @2 :UInt64;      # records up to here are durable or refused: send from watermark + 1
  creditBytes @3 :UInt64;    # text bytes that may be unacknowledged
  creditRecords @4 :UInt32;  # records that may be unacknowledged
  recordBytesMax @5 :UInt32;
  refused @6 :List(Refused); # refusals above Hello.lastAcked
}

struct Batch {             # not "Data", which would hide the built-in type
  epoch @0 :UInt64;
  firstSeq @1 :UInt64;          # the records are firstSeq, firstSeq + 1, ...
  records @2 :List(Record);
}

struct Record {
  text @0 :Data;           # UTF-8; raw bytes here, so that a record that is not UTF-8 is refused alone
  promptBytes @1 :UInt32;  # leading bytes that are a prompt (0: none)
}

struct Flush {
  epoch @0 :UInt64;
  upTo @1 :UInt64;  # the input ends here for now: commit what is there
}

struct Ack {
  epoch @0 :UInt64;
  upTo @1 :UInt64;           # all records up to here are durable, but for the refused ones
  refused @2 :List(Refused); # those refused since the last ack
  creditBytes @3 :UInt64;
  creditRecords @4 :UInt32;
}

struct Refused {
  seq @0 :UInt64;
  reason @1 :UInt8;
}

struct Refuse {
  reason @0 :Reason;
  detail @1 :Text;        # one sentence
  expectedSeq @2 :UInt64; # gap: what was expected
  final @3 :Bool;         # true: sending again will not help

  enum Reason {
    badFrame @0;
    version @1;
    noHello @2;
    staleEpoch @3;
    gap @4;
    credit @5;
    regression @6;  # the gateway has seen acks that the daemon's store has not: storage went backwards
    starting @7;
    stopping @8;
    noSpace @9;
  }
}
