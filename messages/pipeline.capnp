@0xf13620b1bc40f775;
# What the stages say to each other. Internal: both ends are of one version.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("kpool::schema::pipeline");

struct Envelope {
  run @18 :UInt64;    # the life of the pipeline that it belongs to; a frame of an earlier life is dropped
  from @19 :UInt8;    # the stage that says it
  number @20 :UInt64; # 1, 2, 3... per sender, receiver and run; 0: not counted
  union {
    join @0 :Join;              # stage -> persistence: a stage has started, and asks for its state
    restore @1 :Value;          # persistence -> stage: one value of the last commit
    restored @2 :Restored;      # persistence -> stage: that was all of it
    records @3 :List(Record);           # ingestion -> encoding
    encoded @4 :List(EncodedRecord);    # encoding -> routing
    routed @5 :Routed;          # routing -> training
    birth @6 :Birth;            # routing -> training -> fragility
    trained @7 :Trained;        # training -> fragility
    refused @8 :Refusals;   # any stage -> persistence
    barrier @9 :Barrier;        # along the records, and from every stage to persistence
    part @10 :Value;            # stage -> persistence: a value of a group
    durable @11 :Refusals;      # persistence -> stages
    ranking @12 :Ranking;       # fragility -> routing
    report @13 :Report;         # any stage -> serving
    snapshot @14 :Snapshot;     # serving -> persistence
    answer @15 :Answer;         # persistence, routing -> serving: to a snapshot or change
    reset @16 :Text;            # persistence -> stages: leave, so that the whole pipeline restarts
    mark @17 :Void;             # nothing new: number is that of the last counted frame
    change @21 :Change;         # serving -> routing: an operator's wish
    setting @22 :Setting;       # routing -> persistence: what came of it, durable at once
  }
}

struct Join {
  stage @0 :Text;
  instance @1 :UInt64;  # random
  identity @2 :Text;    # base and shape, where the stage knows it
}
struct Origin { source @0 :UInt32; seq @1 :UInt64; }
struct Record { origin @0 :Origin; promptBytes @1 :UInt32; text @2 :Text; }
struct EncodedRecord {
  origin @0 :Origin; promptTokens @1 :UInt32; tokens @2 :List(Int32); embedding @3 :List(Float32);
  hidden @4 :HiddenStates;
}
struct HiddenStates { layers @0 :UInt32; values @1 :List(Float32); }
struct Sample { origin @0 :Origin; promptTokens @1 :UInt32; tokens @2 :List(Int32); hidden @3 :HiddenStates; }
struct Routed { slot @0 :UInt32; samples @1 :List(Sample); }
struct Birth { slot @0 :UInt32; generation @1 :UInt64; evicts @2 :Bool; merges @3 :Bool; mergedInto @4 :UInt32; }
struct Trained {
  slot @0 :UInt32; step @1 :UInt64; tokens @2 :UInt32; records @3 :UInt32; loss @4 :Float64;
  gain @5 :Float64; hasGain @6 :Bool; sharpness @7 :Float64; hasSharpness @8 :Bool;
  rivalSlot @9 :UInt32; rivalLoss @10 :Float64; hasRival @11 :Bool;
}
struct Refused { origin @0 :Origin; reason @1 :UInt8; }
struct MergePair { lesser @0 :UInt32; greater @1 :UInt32; birth @2 :UInt64; agreement @3 :Float64; }
struct Barrier { group @0 :UInt64; stage @1 :Text; merge @2 :MergePair; }
struct Value { key @0 :Text; value @1 :Data; group @2 :UInt64; }
struct Restored { group @0 :UInt64; values @1 :UInt64; }
struct Refusals { group @0 :UInt64; refused @1 :List(Refused); }
struct SlotScore {
  slot @0 :UInt32; generation @1 :UInt64; steps @2 :UInt64; tokens @3 :UInt64; loss @4 :Float64;
  gain @5 :Float64; sharpness @6 :Float64; fragility @7 :Float64; value @8 :Float64; reason @9 :Text;
}
struct Ranking { group @0 :UInt64; slots @1 :List(SlotScore); merge @2 :MergePair; }
struct Report { stage @0 :Text; json @1 :Text; }
struct Snapshot { id @0 :UInt64; directory @1 :Text; }
struct Answer { id @0 :UInt64; error @1 :Text; }
struct Change { id @0 :UInt64; slot @1 :UInt32; what @2 :UInt8; }
struct Setting { id @0 :UInt64; value @1 :Value; }
