/** What is left of earlier collections of a name: dots whose writes must not reach the one that has it now. See collections/earlier.ts. */
import { earlierSql } from '../collections/earlier.ts';
import type { Clock } from '../versioning/clock.ts';
import type { ApplySession } from './session.pg.ts';

export async function readEarlier(session: ApplySession, collection: string): Promise<Clock> {
  const rows = await session.run<{ clock: Clock }>('earlier', earlierSql, [collection]);
  return rows.rows[0]?.clock ?? {};
}
