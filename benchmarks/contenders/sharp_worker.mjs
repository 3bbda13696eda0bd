// A worker as a Node developer would write it well: sharp, a fixed number of images at a time, deletes in one batch.
import { DeleteMessageBatchCommand, GetQueueUrlCommand, ReceiveMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import { GetObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import sharp from "sharp";

if (process.argv.includes("--probe")) process.exit(0);

sharp.cache(false);
sharp.concurrency(1); // threads of one image; the images run side by side

const parallel = Number(process.env.PARALLEL ?? "2");
const output = process.env.OUTPUT_BUCKET;
const s3 = new S3Client({ forcePathStyle: true });
const sqs = new SQSClient({});

const fitted = (data, width, height) =>
  sharp(data).rotate().resize(width, height, { fit: "inside", withoutEnlargement: true }).jpeg({ quality: 85 }).toBuffer();

const put = (Key, Body) =>
  s3.send(new PutObjectCommand({ Bucket: output, Key, Body, ContentType: "image/jpeg" }));

async function work(message) {
  const found = JSON.parse(message.Body).Records[0].s3;
  const key = decodeURIComponent(found.object.key.replaceAll("+", " "));
  const original = await s3.send(new GetObjectCommand({ Bucket: found.bucket.name, Key: key }));
  const resized = await fitted(await original.Body.transformToByteArray(), 1024, 768);
  await put(`resized/${key}`, resized);
  await put(`thumbs/${key}`, await fitted(resized, 192, 192));
  console.log(`done: ${key}`);
}

const { QueueUrl } = await sqs.send(new GetQueueUrlCommand({ QueueName: `${process.env.QUEUE_PREFIX}events` }));
process.on("SIGTERM", () => process.exit(0));
for (;;) {
  const received = await sqs.send(
    new ReceiveMessageCommand({ QueueUrl, MaxNumberOfMessages: 10, WaitTimeSeconds: 20, VisibilityTimeout: 120 }),
  );
  const messages = received.Messages ?? [];
  const waiting = [...messages];
  const lane = async () => {
    for (let message = waiting.shift(); message; message = waiting.shift()) await work(message);
  };
  await Promise.all(Array.from({ length: parallel }, lane));
  if (messages.length) {
    const Entries = messages.map((message, index) => ({ Id: String(index), ReceiptHandle: message.ReceiptHandle }));
    await sqs.send(new DeleteMessageBatchCommand({ QueueUrl, Entries }));
  }
}
