/**
 * Faults that tests ask a process for, in its environment. None of it counts without PGQUORUM_TEST_FAULTS=on, so a variable that was left somewhere does
 * no harm. They are no settings: nobody operates with them.
 */
import { PgquorumError } from '../errors/error.ts';
import { armDelays } from './delays.process.ts';
import { armFailpoint, failpoints } from './failpoint.process.ts';

/** Called once where a process begins. What is armed, as a sentence; null = nothing. */
export function armFaults(environment: Readonly<Record<string, string | undefined>>): string | null {
  if (environment['PGQUORUM_TEST_FAULTS'] !== 'on') return null;
  const armed = [delays(environment['PGQUORUM_TEST_DELAYS']), dies(environment['PGQUORUM_TEST_FAILPOINT'])];
  return armed.filter((one) => one !== null).join(', ') || null;
}

function delays(seed: string | undefined): string | null {
  if (seed === undefined || seed === '') return null;
  if (!/^\d+$/.test(seed))
    throw new PgquorumError('settings_invalid', `PGQUORUM_TEST_DELAYS: ${seed} is no seed`);
  armDelays(Number(seed));
  return `everything that is sent to a server waits up to a tenth of a second first (seed ${seed})`;
}

function dies(wanted: string | undefined): string | null {
  if (wanted === undefined || wanted === '') return null;
  const [name, time = '1'] = wanted.split(':') as [string, string?];
  const known = failpoints.find((one) => one === name);
  if (known === undefined || !/^[1-9]\d*$/.test(time))
    throw new PgquorumError('settings_invalid', `PGQUORUM_TEST_FAILPOINT: there is no failpoint ${wanted}`);
  armFailpoint(known, Number(time));
  return `this process dies at failpoint ${wanted}`;
}
