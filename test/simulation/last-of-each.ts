import { dotText } from '#core/versioning/version.ts';
import type { Message } from './message.ts';

/** Capture publishes the last version of a key and the last state of a record in a transaction. */
export function lastOfEach(messages: readonly Message[]): Message[] {
  const last = new Map<string, Message>();
  for (const message of messages)
    last.set(
      message.kind === 'write' ? message.key : `${message.key} ${dotText(message.record.loser.dot)}`,
      message,
    );
  return [...last.values()];
}
