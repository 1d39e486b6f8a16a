// A client of glasslog in Go, made from the .proto files alone: it writes the lines it reads, and reads a topic.
//
//	./generate.sh && go build
//	seq 1000 | ./glasslog.example -brokers localhost:9192 produce numbers
//	./glasslog.example -brokers localhost:9192 consume numbers
//
// It shows what a client has to do, and no more than that: one request at a time, no groups, no compression.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	pb "glasslog.example/glasslogv1"
)

const linesPerBatch = 500

func main() {
	brokers := flag.String("brokers", "localhost:9192", "GRPC listeners of some brokers, with commas")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: glasslog.example [-brokers HOST:PORT,...] produce|consume TOPIC")
		os.Exit(2)
	}
	cluster, topic := newCluster(strings.Split(*brokers, ",")), flag.Arg(1)
	var err error
	switch flag.Arg(0) {
	case "produce":
		err = produce(cluster, topic, os.Stdin)
	case "consume":
		err = consume(cluster, topic, os.Stdout)
	default:
		err = fmt.Errorf("%q is neither produce nor consume", flag.Arg(0))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// produce writes each line as one record, the partitions in turn.
func produce(cluster *Cluster, topic string, lines io.Reader) error {
	leaders, err := cluster.leaders(topic)
	if err != nil {
		return err
	}
	identity, err := anyBroker(cluster, func(ctx context.Context, broker pb.BrokerClient) (*pb.InitProducerIdResponse, error) {
		return broker.InitProducerId(ctx, &pb.InitProducerIdRequest{ProducerId: -1, ProducerEpoch: -1})
	})
	if err != nil {
		return err
	}
	if identity.ErrorCode != 0 {
		return fmt.Errorf("no producer id: error %d", identity.ErrorCode)
	}
	producer := Producer{id: identity.ProducerId, epoch: identity.ProducerEpoch}
	sequences := make([]int32, len(leaders))
	scanner := bufio.NewScanner(lines)
	for turn := 0; ; turn++ {
		var values [][]byte
		for len(values) < linesPerBatch && scanner.Scan() {
			values = append(values, append([]byte(nil), scanner.Bytes()...))
		}
		if len(values) == 0 {
			return scanner.Err()
		}
		partition := turn % len(leaders)
		batch := encodeBatch(values, producer, sequences[partition], time.Now().UnixMilli())
		if err := send(cluster, topic, int32(partition), batch); err != nil {
			return err
		}
		sequences[partition] += int32(len(values))
	}
}

// send returns when every replica in sync has the batch. Sent again it is the same batch: stored once.
func send(cluster *Cluster, topic string, partition int32, batch []byte) error {
	return cluster.atLeader(topic, partition, func(broker pb.BrokerClient) (int32, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		stream, err := broker.Produce(ctx)
		if err != nil {
			return 0, err
		}
		request := &pb.ProduceRequest{CorrelationId: 1, Acks: -1, TimeoutMs: 5000, ClientId: "go-example"}
		request.Partitions = []*pb.ProduceRequest_Partition{{Topic: topic, Partition: partition, Records: batch}}
		if err := stream.Send(request); err != nil {
			return 0, err
		}
		reply, err := stream.Recv()
		if err != nil {
			return 0, err
		}
		return reply.Partitions[0].ErrorCode, nil
	})
}

// consume writes what the topic holds now: partition, offset and value of each record, one a line.
func consume(cluster *Cluster, topic string, target io.Writer) error {
	leaders, err := cluster.leaders(topic)
	if err != nil {
		return err
	}
	for partition := range leaders {
		position, err := offset(cluster, topic, int32(partition), -2)
		if err != nil {
			return err
		}
		end, err := offset(cluster, topic, int32(partition), -1)
		if err != nil {
			return err
		}
		for position < end {
			data, err := fetch(cluster, topic, int32(partition), position)
			if err != nil {
				return err
			}
			records, next, err := decodeBatches(data, position)
			if err != nil {
				return fmt.Errorf("partition %d at offset %d: %w", partition, position, err)
			}
			for _, record := range records {
				fmt.Fprintf(target, "%d\t%d\t%s\n", partition, record.offset, record.value)
			}
			position = next
		}
	}
	return nil
}

// offset is where a partition begins (-2) or ends (-1).
func offset(cluster *Cluster, topic string, partition int32, timestamp int64) (int64, error) {
	var found int64
	err := cluster.atLeader(topic, partition, func(broker pb.BrokerClient) (int32, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		asked := &pb.ListOffsetsRequest_Partition{
			Topic: topic, Partition: partition, Timestamp: timestamp, CurrentLeaderEpoch: -1,
		}
		reply, err := broker.ListOffsets(ctx, &pb.ListOffsetsRequest{Partitions: []*pb.ListOffsetsRequest_Partition{asked}})
		if err != nil {
			return 0, err
		}
		found = reply.Partitions[0].Offset
		return reply.Partitions[0].ErrorCode, nil
	})
	return found, err
}

// fetch gets whole batches from position on, as many as fit.
func fetch(cluster *Cluster, topic string, partition int32, position int64) ([]byte, error) {
	var data []byte
	err := cluster.atLeader(topic, partition, func(broker pb.BrokerClient) (int32, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		stream, err := broker.Fetch(ctx)
		if err != nil {
			return 0, err
		}
		asked := &pb.FetchRequest_Partition{
			Topic: topic, Partition: partition, FetchOffset: position, CurrentLeaderEpoch: -1, MaxBytes: 1 << 20,
		}
		request := &pb.FetchRequest{CorrelationId: 1, MaxWaitMs: 500, MinBytes: 1, MaxBytes: 1 << 20, ClientId: "go-example"}
		request.Partitions = []*pb.FetchRequest_Partition{asked}
		if err := stream.Send(request); err != nil {
			return 0, err
		}
		reply, err := stream.Recv()
		if err != nil {
			return 0, err
		}
		if reply.ErrorCode != 0 || len(reply.Partitions) == 0 {
			return reply.ErrorCode, nil
		}
		data = reply.Partitions[0].Records
		return reply.Partitions[0].ErrorCode, nil
	})
	return data, err
}
