/**
 * Faults that tests ask a process for, in its environment. None of it counts without PGQUORUM_TEST_FAULTS=on, so a variable that was left somewhere does
 * no harm. They are no settings: nobody operates with them.
 */
import { PgquorumError } from '../errors/error.ts';
import { armFailpoint, failpoints } from './failpoint.process.ts';

/** Called once where a process begins. What is armed, as a sentence; null = nothing. */
export function armFaults(environment: Readonly<Record<string, string | undefined>>): string | null {
  if (environment['PGQUORUM_TEST_FAULTS'] !== 'on') return null;
  const wanted = environment['PGQUORUM_TEST_FAILPOINT'];
  if (wanted === undefined || wanted === '') return null;
  const [name, time = '1'] = wanted.split(':') as [string, string?];
  const known = failpoints.find((one) => one === name);
  if (known === undefined || !/^[1-9]\d*$/.test(time))
    throw new PgquorumError('settings_invalid', `PGQUORUM_TEST_FAILPOINT: there is no failpoint ${wanted}`);
  armFailpoint(known, Number(time));
  return `this process dies at failpoint ${wanted}`;
}
