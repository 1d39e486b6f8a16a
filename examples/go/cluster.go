package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	pb "glasslog.example/glasslogv1"
)

const patience = 30 * time.Second

// Kafka's numbers of errors that another broker, or the same one in a moment, does not give.
var temporary = map[int32]bool{
	3:  true, // UNKNOWN_TOPIC_OR_PARTITION: this broker has not heard of it yet
	5:  true, // LEADER_NOT_AVAILABLE
	6:  true, // NOT_LEADER_OR_FOLLOWER
	7:  true, // REQUEST_TIMED_OUT
	15: true, // COORDINATOR_NOT_AVAILABLE
	19: true, // NOT_ENOUGH_REPLICAS
	20: true, // NOT_ENOUGH_REPLICAS_AFTER_APPEND
	74: true, // FENCED_LEADER_EPOCH
	75: true, // UNKNOWN_LEADER_EPOCH
}

// Cluster finds brokers, leaders, and the connections to them.
type Cluster struct {
	bootstrap   []string
	connections map[string]*grpc.ClientConn
}

func newCluster(bootstrap []string) *Cluster {
	return &Cluster{bootstrap: bootstrap, connections: map[string]*grpc.ClientConn{}}
}

func (c *Cluster) broker(address string) (pb.BrokerClient, error) {
	connection := c.connections[address]
	if connection == nil {
		made, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, err
		}
		connection, c.connections[address] = made, made
	}
	return pb.NewBrokerClient(connection), nil
}

// anyBroker asks those given until one has answered.
func anyBroker[Reply any](c *Cluster, call func(context.Context, pb.BrokerClient) (Reply, error)) (Reply, error) {
	var reply Reply
	err := fmt.Errorf("no brokers were given")
	for _, address := range c.bootstrap {
		var broker pb.BrokerClient
		if broker, err = c.broker(address); err != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		reply, err = call(ctx, broker)
		cancel()
		if err == nil {
			return reply, nil
		}
	}
	return reply, err
}

// leaders gives the address of the leader of each partition, once all have one.
func (c *Cluster) leaders(topic string) ([]string, error) {
	request := &pb.MetadataRequest{Topics: []string{topic}, AllowAutoTopicCreation: true}
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		reply, err := anyBroker(c, func(ctx context.Context, broker pb.BrokerClient) (*pb.MetadataResponse, error) {
			return broker.Metadata(ctx, request)
		})
		if err == nil {
			found, code := leadersIn(reply)
			if found != nil {
				return found, nil
			}
			err = fmt.Errorf("topic %q has no leaders: error %d", topic, code)
			if code != 0 && !temporary[code] {
				return nil, err
			}
		}
		if time.Now().After(deadline) {
			return nil, err
		}
	}
}

// leadersIn is nil while there is something amiss with the topic; the error says what, 0 that it only takes time.
func leadersIn(reply *pb.MetadataResponse) ([]string, int32) {
	addresses := map[int32]string{}
	for _, broker := range reply.Brokers {
		addresses[broker.Id] = fmt.Sprintf("%s:%d", broker.Host, broker.Port)
	}
	if len(reply.Topics) == 0 {
		return nil, 0
	}
	if code := reply.Topics[0].ErrorCode; code != 0 || len(reply.Topics[0].Partitions) == 0 {
		return nil, code
	}
	found := make([]string, len(reply.Topics[0].Partitions))
	for _, partition := range reply.Topics[0].Partitions {
		address, known := addresses[partition.Leader]
		if !known {
			return nil, partition.ErrorCode
		}
		found[partition.Partition] = address
	}
	return found, 0
}

// atLeader asks a partition's leader, and the next one when leaders change, until the answer has no error.
func (c *Cluster) atLeader(topic string, partition int32, ask func(pb.BrokerClient) (int32, error)) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		leaders, err := c.leaders(topic)
		if err != nil {
			return err
		}
		if int(partition) >= len(leaders) {
			return fmt.Errorf("topic %q has no partition %d", topic, partition)
		}
		broker, err := c.broker(leaders[partition])
		if err != nil {
			return err
		}
		code, err := ask(broker)
		if err == nil && code == 0 {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("partition %d of topic %q: error %d", partition, topic, code)
			if !temporary[code] {
				return err
			}
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}
