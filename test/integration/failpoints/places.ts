/** Which test comes to which failpoint: a new one has to be put here before anything compiles, and each test checks that it came to all of its own. */
import { failpoints, type Failpoint } from '#core/faults/failpoint.process.ts';

type Place = 'wal' | 'kafka' | 'attach' | 'purge' | 'join' | 'shards';

const placeOf: Readonly<Record<Failpoint, Place>> = {
  'source-announced': 'wal',
  'source-slot-made': 'wal',
  'feed-appended': 'kafka',
  'feed-position-saved': 'kafka',
  'apply-rows-written': 'wal',
  'apply-versions-written': 'wal',
  'apply-commit-sent': 'wal',
  'apply-committed': 'wal',
  'apply-kept-aside': 'wal',
  'resync-slot-noted': 'wal',
  'resync-position-kept': 'wal',
  'resync-chunk-merged': 'wal',
  'resync-cursor-saved': 'wal',
  'resync-copied': 'wal',
  'join-collections-made': 'join',
  'join-filled': 'join',
  'join-index-built': 'join',
  'join-horizons-taken': 'join',
  'shard-planned': 'shards',
  'shard-chunk-copied': 'shards',
  'shard-verified': 'shards',
  'shard-switched': 'shards',
  'shard-keys-cleaned': 'shards',
  'backfill-agreed': 'attach',
  'backfill-committed': 'attach',
  'job-checkpointed': 'attach',
  'job-worked': 'attach',
  'purge-horizon-raised': 'purge',
  'purge-horizons-raised': 'purge',
  'purge-tombstones-deleted': 'purge',
  'collections-committed': 'wal',
  'ddl-committed': 'attach',
};

export const failpointsOf = (place: Place): Failpoint[] => failpoints.filter((one) => placeOf[one] === place);
