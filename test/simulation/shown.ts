/** Parts of the trace that a failure prints. */
import type { ConflictRecord } from '#core/changelog/change.ts';
import { versionsOf } from '#core/versioning/merge.ts';
import { dotText, type Version } from '#core/versioning/version.ts';
import type { Message, WriteMessage } from './message.ts';
import type { SimNode } from './node.ts';

/** Where simulated time begins. */
export const startMs = 1_000_000_000_000;

export const shortHlc = (version: Version): string =>
  `${Number((version.hlc as bigint) >> 16n) - startMs}:${(version.hlc as bigint) & 0xffffn}`;
export const shownOpen = (records: readonly ConflictRecord[]): string =>
  records.map((record) => dotText(record.loser.dot)).join(' ') || 'none';
export const shownWinner = (node: SimNode, key: string): string => {
  const stored = node.versions.get(key);
  return stored === undefined ? 'none' : dotText(stored.version.dot);
};
export function shownMessage(message: Message): string {
  if (message.kind === 'conflict')
    return `record ${dotText(message.record.loser.dot)} ${message.record.state}`;
  return shownState(message);
}
function shownState({ state, requests }: WriteMessage): string {
  const dots = versionsOf(state).map((one) => dotText(one.version.dot));
  return dots.length === 1 && requests.length === 0 ? dots[0]! : `whole state [${dots.join(' ')}]`;
}
