/** Errors -> gRPC statuses whose details carry the code of the registry as a google.rpc.ErrorInfo. */
import { Metadata, status as grpcStatus, type ServiceError } from '@grpc/grpc-js';
import protobuf from 'protobufjs';
import { errorCodes } from '#core/errors/codes.ts';
import type { PgquorumError } from '#core/errors/error.ts';
import { retryAfterMsOf } from '../access/limits.ts';

/** The messages of google.rpc and google.protobuf that are needed, with their field numbers. */
const { root } = protobuf.parse(
  `syntax = "proto3";
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message Duration { int64 seconds = 1; int32 nanos = 2; }
  message RetryInfo { Duration retry_delay = 1; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }`,
  { keepCase: true },
);
const statusType = root.lookupType('Status');
const errorInfoType = root.lookupType('ErrorInfo');
const retryInfoType = root.lookupType('RetryInfo');

export const errorDomain = 'pgquorum';

const retryInfo = (delayMs: number) => ({
  type_url: 'type.googleapis.com/google.rpc.RetryInfo',
  value: retryInfoType
    .encode({
      retry_delay: { seconds: Math.floor(delayMs / 1000), nanos: (Math.ceil(delayMs) % 1000) * 1_000_000 },
    })
    .finish(),
});

export function toServiceError(error: PgquorumError, requestId: string): ServiceError {
  const { grpc, hint, title } = errorCodes[error.code];
  const code = grpcStatus[grpc];
  const retryAfterMs = retryAfterMsOf(error);
  const message = `${title}: ${error.detail}`;
  const info = errorInfoType
    .encode({ reason: error.code, domain: errorDomain, metadata: { hint, requestId, ...receiptOf(error) } })
    .finish();
  const details = statusType
    .encode({
      code,
      message,
      details: [
        { type_url: 'type.googleapis.com/google.rpc.ErrorInfo', value: info },
        ...(retryAfterMs === null ? [] : [retryInfo(retryAfterMs)]),
      ],
    })
    .finish();
  const metadata = new Metadata();
  metadata.set('grpc-status-details-bin', Buffer.from(details));
  metadata.set('x-request-id', requestId);
  return Object.assign(new Error(message), { code, details: message, metadata });
}

/** As in the body of an HTTP answer. */
const receiptOf = ({ extra: { receipt } }: PgquorumError): { receipt?: string } =>
  receipt === undefined ? {} : { receipt: JSON.stringify(receipt) };
