/**
 * The apply stage alone, against native logical replication: rows of 768 dimensions that are in memory and decoded, applied by the lanes of an edge to the
 * target, with their versions and progress, each batch waiting for the disk. Native replication drains the same rows from its slot, in turns.
 *
 *     node dist/bench/apply-stage.bench.js
 */
import { makeApplyLink } from './setup/apply-link.ts';
import { finish, full, median, rounds, say, show, size, title, whole } from './setup/figures.ts';
import { drain, makeLink, type Drained } from './setup/link.ts';
import { noIndex, settle, startPair, type Pair } from './setup/masters.ts';
import { RowSource, upsertMany } from './setup/rows.ts';

const rows = size('ROWS', full ? 100_000 : 50_000);
const transactionRows = 100;
const goal = 1;

async function write(pair: Pair, table: string): Promise<void> {
  const source = await RowSource.of(pair.atOrigin);
  for (const batch of source.batches(table, rows, transactionRows))
    await upsertMany(pair.atOrigin, table, batch);
}

async function measureNative(pair: Pair, table: string): Promise<Drained> {
  await using link = await makeLink({ kind: 'native', pair, table, index: noIndex });
  await write(pair, table);
  await settle(pair.masters.nodes);
  return await drain(link, pair, rows);
}

async function measureOurs(pair: Pair, table: string): Promise<Drained> {
  await using link = await makeApplyLink(pair, table);
  await write(pair, table);
  await link.gather(rows);
  await settle(pair.masters.nodes);
  return await drain(link, pair, rows);
}

title(`${whole(rows)} rows in transactions of ${transactionRows}, no ANN index on the target`);
await using pair = await startPair('wal');
const found: Record<'native' | 'ours', Drained[]> = { native: [], ours: [] };
for (let round = 0; round < rounds; round += 1) {
  for (const side of round % 2 === 0 ? (['native', 'ours'] as const) : (['ours', 'native'] as const)) {
    const table = `apply_${side}_${round}`;
    const one = side === 'native' ? await measureNative(pair, table) : await measureOurs(pair, table);
    found[side].push(one);
    say(
      `  round ${round + 1}, ${side === 'ours' ? 'pgquorum' : 'native'}: ${whole(one.rowsPerSecond)} rows/s; us of processor a row: ${whole(one.cpuUs.replicators)} in the appliers, ${whole(one.cpuUs.peer)} at the target`,
    );
  }
}
const ratio = median(found.ours.map((one, round) => one.rowsPerSecond / found.native[round]!.rowsPerSecond));
const rateOf = (side: 'native' | 'ours') => median(found[side].map((one) => one.rowsPerSecond));
show({ name: 'native logical replication, binary', value: `${whole(rateOf('native'))} rows/s` });
show({
  name: 'pgquorum, changes in memory',
  value: `${whole(rateOf('ours'))} rows/s`,
  ratio,
  against: 'native',
  goal: { text: `at least ${goal} of native`, met: ratio >= goal },
});
finish();
