/** A change as a CloudEvent 1.0 in structured mode: JSON that says what it is. https://github.com/cloudevents/spec Pure. */
import { changeJson, jsonObject, operationOf } from '../changes/change-json.ts';
import { PgquorumError } from '../errors/error.ts';
import type { NameOfNode } from '../versioning/version-view.ts';
import { keyText, type Change } from './change.ts';
import { ChangeHeaders, eventId, messageKey, type ChangeEncoder } from './codec.ts';
import type { Commit } from './message.ts';
import type { RecordContent } from './record-batch.ts';

export const CLOUD_EVENT = 'application/cloudevents+json; charset=UTF-8';

export interface CloudEventOptions {
  readonly cluster: string;
  readonly nameOf: NameOfNode;
}

export class CloudEventEncoder implements ChangeEncoder {
  readonly #options: CloudEventOptions;
  readonly #headers = new ChangeHeaders(CLOUD_EVENT);

  constructor(options: CloudEventOptions) {
    this.#options = options;
  }

  record(change: Change, commit: Commit, originName: string): RecordContent {
    if (change.kind === 'heartbeat')
      throw new PgquorumError('invariant_broken', 'a sign of life is no event for others');
    const { cluster, nameOf } = this.#options;
    const id = eventId(change, commit);
    const key = keyText(change.key);
    const text = jsonObject([
      ['specversion', '"1.0"'],
      // Unique together with the source, and the same at every delivery.
      ['id', JSON.stringify(id)],
      ['source', JSON.stringify(`/pgquorum/${cluster}/${originName}`)],
      ['type', JSON.stringify(`pgquorum.change.${operationOf(change)}`)],
      ['subject', JSON.stringify(`${change.collection}/${encodeURIComponent(key)}`)],
      ['time', JSON.stringify(new Date(commit.commitTimeMs).toISOString())],
      ['datacontenttype', '"application/json"'],
      ['partitionkey', JSON.stringify(`${change.collection}/${key}`)],
      ['data', changeJson(change, { commit, origin: originName, nameOf })],
    ]);
    return {
      key: messageKey(change),
      ...this.#headers.of(change, commit, id),
      writeValue: (into) => into.text(text),
    };
  }
}
