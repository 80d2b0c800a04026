/** Which change logs a test runs through. */
import { kafkaAvailable } from './kafka-jars.os.ts';

export type LogName = 'wal' | 'kafka';

const all: readonly LogName[] = ['wal', 'kafka'];

/**
 * All of them in the long form; else those that the test names: what happens in a database is the same through either, and both of each dear test would
 * take longer than one waits for. Without Kafka on this machine only the WAL, which is said.
 */
export async function changeLogs(short: readonly LogName[] = all): Promise<readonly LogName[]> {
  const wanted = process.env['PGQUORUM_TEST_LONG'] === '1' ? all : short;
  if (!wanted.includes('kafka')) return wanted;
  const kafka = await kafkaAvailable();
  if (kafka.kind === 'available') return wanted;
  process.stderr.write(`skipped: through Kafka (${kafka.reason})\n`);
  return ['wal'];
}
