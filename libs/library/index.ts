/**
 * What others may use on its own: `import { … } from 'pgquorum'`. The very code that the applications run: algorithms without connections, processes or
 * settings, and the applications' own composition as a class.
 */
export { PgquorumError } from '#core/errors/error.ts';
export { GCounter } from '#core/versioning/crdt/g-counter.ts';
export { LwwRegister } from '#core/versioning/crdt/lww-register.ts';
export { OrSet } from '#core/versioning/crdt/or-set.ts';
export { PNCounter } from '#core/versioning/crdt/pn-counter.ts';
export { Hlc } from '#core/versioning/hybrid-clock.ts';
export { HashRing } from '#core/placement/ring.ts';
export { JumpHash } from '#core/placement/jump-hash.ts';
export { Rendezvous } from '#core/placement/rendezvous.ts';
export { VectorClock } from '#core/versioning/vector-clock.ts';
export { Replicator } from './replicator.ts';
export type {
  AddedReplica,
  EventsOptions,
  RemoveOptions,
  VectorEntry,
  WriteOptions,
  WriteResult,
  WrittenResult,
} from './replicator.ts';
export type { ReplicaAddress, ReplicationConfig } from './replication-config.ts';
