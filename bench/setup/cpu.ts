/**
 * Processor time, from /proc: what something costs, whatever else the machine does meanwhile. Rates fall when others want the processor too,
 * these figures hardly.
 */
import { readFileSync } from 'node:fs';
import { processesIn } from '#core/embedded/process.os.ts';
import type { TestMaster } from '#core/testing/masters.pg.ts';

const tickMs = 10; // USER_HZ is 100 wherever Linux shows it

/** Of a process and of its children that have ended, in ms; 0 when it has ended itself. */
export function processCpuMs(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return [11, 12, 13, 14].reduce((sum, at) => sum + Number(fields[at]), 0) * tickMs;
  } catch (cause) {
    if (
      (cause as NodeJS.ErrnoException).code === 'ENOENT' ||
      (cause as NodeJS.ErrnoException).code === 'ESRCH'
    )
      return 0;
    throw cause;
  }
}

/** Of a server with all its backends, those that have ended included: the postmaster has collected them. */
export const serverCpuMs = (master: TestMaster): number =>
  processesIn(master.dataDir).reduce((sum, { pid }) => sum + processCpuMs(pid), 0);
