/** What each kind of job does: the one list of works. A kind is named as in `startJob`. */
import { attachJob, attachWork } from '#core/collections/attach-job.pg.ts';
import type { JobWork } from '#core/jobs/job.ts';
import { ddlJob, ddlWork } from '#core/ddl/work.pg.ts';
import { addReplicaWork } from '#core/membership/add-work.pg.ts';
import { addReplicaJob, removeReplicaJob } from '#core/membership/replica-request.ts';
import { removeReplicaWork } from '#core/membership/remove-work.pg.ts';
import { moveJob, takeShardsJob } from '#core/shards/move-request.ts';
import { moveWork } from '#core/shards/move.pg.ts';
import { takeShardsWork } from '#core/shards/spread.pg.ts';
import { preflightWork } from '#core/postgres/preflight.pg.ts';
import { syncWork } from '#core/resync/sync-job.pg.ts';
import { verifyWork } from '#core/verify/verify-job.pg.ts';
import { deleteTopicsOf, readTopicToEnd } from './change-log.ts';
import type { Replication } from './tokens.ts';

export function jobWorks({ settings, log, logger }: Replication): Readonly<Record<string, JobWork>> {
  const { cluster, clockDriftMaxMs } = settings;
  const shards = { cluster, logger, placement: settings, keysPerSecond: settings.resyncKeysPerS };
  return {
    [addReplicaJob]: addReplicaWork({ cluster, log, clockDriftMaxMs }),
    [attachJob]: attachWork(),
    [ddlJob]: ddlWork,
    [moveJob]: moveWork(shards),
    preflight: preflightWork({ cluster, log, clockDriftMaxMs }),
    [removeReplicaJob]: removeReplicaWork({
      ...shards,
      ...(log === 'kafka'
        ? {
            readToEnd: (...what) => readTopicToEnd({ settings }, ...what),
            deleteTopics: (node) => deleteTopicsOf({ settings }, node),
          }
        : {}),
    }),
    [takeShardsJob]: takeShardsWork(shards),
    sync: syncWork(),
    verify: verifyWork({ cluster, logger }),
  };
}
