package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A record batch of Kafka's format v2 is what Produce takes and Fetch gives, as bytes: a header of 61 bytes,
// big-endian, then the records, whose numbers are zigzag varints (binary.AppendVarint writes just these).
// https://kafka.apache.org/documentation/#recordbatch
const (
	headerBytes       = 61
	lengthAt          = 8  // everything behind it is counted
	magicAt           = 16 // always 2
	checksumAt        = 17 // CRC-32C of everything behind it
	attributesAt      = 21 // the lowest three bits say how the records are compressed, bit 5: no records of users
	lastOffsetDeltaAt = 23
	baseTimestampAt   = 27
	maxTimestampAt    = 35
	producerIDAt      = 43
	producerEpochAt   = 51
	baseSequenceAt    = 53
	countAt           = 57
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Producer is what a broker recognises batches by that are sent again.
type Producer struct {
	id    int64
	epoch int32
}

// Record is one as it was read.
type Record struct {
	offset     int64
	key, value []byte
}

// encodeBatch makes one batch of values without keys. The broker fills in where they are stored.
func encodeBatch(values [][]byte, producer Producer, sequence int32, timestampMs int64) []byte {
	batch := make([]byte, headerBytes)
	for delta, value := range values {
		record := []byte{0}                                // attributes: none are in use
		record = binary.AppendVarint(record, 0)            // after the batch's timestamp
		record = binary.AppendVarint(record, int64(delta)) // after its base offset
		record = binary.AppendVarint(record, -1)           // no key
		record = binary.AppendVarint(record, int64(len(value)))
		record = append(record, value...)
		record = binary.AppendVarint(record, 0) // no headers
		batch = binary.AppendVarint(batch, int64(len(record)))
		batch = append(batch, record...)
	}
	big := binary.BigEndian
	big.PutUint32(batch[lengthAt:], uint32(len(batch)-lengthAt-4))
	big.PutUint32(batch[lengthAt+4:], ^uint32(0)) // leader epoch: the broker's to say
	batch[magicAt] = 2
	big.PutUint32(batch[lastOffsetDeltaAt:], uint32(len(values)-1))
	big.PutUint64(batch[baseTimestampAt:], uint64(timestampMs))
	big.PutUint64(batch[maxTimestampAt:], uint64(timestampMs))
	big.PutUint64(batch[producerIDAt:], uint64(producer.id))
	big.PutUint16(batch[producerEpochAt:], uint16(producer.epoch))
	big.PutUint32(batch[baseSequenceAt:], uint32(sequence))
	big.PutUint32(batch[countAt:], uint32(len(values)))
	big.PutUint32(batch[checksumAt:], crc32.Checksum(batch[attributesAt:], castagnoli))
	return batch
}

// decodeBatches reads whole batches, and says at which offset to go on.
func decodeBatches(data []byte, position int64) ([]Record, int64, error) {
	var records []Record
	for len(data) > 0 {
		if len(data) < headerBytes {
			return nil, 0, errors.New("a batch ends within its header")
		}
		big := binary.BigEndian
		size := lengthAt + 4 + int(big.Uint32(data[lengthAt:]))
		if size < headerBytes || size > len(data) {
			return nil, 0, fmt.Errorf("a batch of %d bytes in an answer of %d", size, len(data))
		}
		batch := data[:size]
		data = data[size:]
		if crc32.Checksum(batch[attributesAt:], castagnoli) != big.Uint32(batch[checksumAt:]) {
			return nil, 0, errors.New("a batch's checksum does not hold")
		}
		base := int64(big.Uint64(batch))
		attributes := big.Uint16(batch[attributesAt:])
		if attributes&7 != 0 {
			return nil, 0, errors.New("a batch is compressed, which this example does not know")
		}
		if attributes&32 == 0 {
			found, err := decodeRecords(batch[headerBytes:], int(big.Uint32(batch[countAt:])), base)
			if err != nil {
				return nil, 0, err
			}
			for _, record := range found {
				// The first batch may begin before what was asked for.
				if record.offset >= position {
					records = append(records, record)
				}
			}
		}
		position = max(position, base+int64(big.Uint32(batch[lastOffsetDeltaAt:]))+1)
	}
	return records, position, nil
}

func decodeRecords(data []byte, count int, base int64) ([]Record, error) {
	reader := &reader{data: data}
	var records []Record
	for range count {
		size := reader.varint()
		rest := len(reader.data) - int(size)
		reader.skip(1)  // attributes
		reader.varint() // timestamp
		record := Record{offset: base + reader.varint()}
		record.key = reader.bytes()
		record.value = reader.bytes()
		reader.skip(len(reader.data) - rest) // headers
		if reader.err != nil {
			return nil, reader.err
		}
		records = append(records, record)
	}
	return records, nil
}

type reader struct {
	data []byte
	err  error
}

func (r *reader) varint() int64 {
	value, size := binary.Varint(r.data)
	if size <= 0 {
		r.err, r.data = errors.New("a record ends too early"), nil
		return 0
	}
	r.data = r.data[size:]
	return value
}

func (r *reader) skip(size int) {
	if size < 0 || size > len(r.data) {
		r.err, r.data = errors.New("a record ends too early"), nil
		return
	}
	r.data = r.data[size:]
}

func (r *reader) bytes() []byte {
	size := int(r.varint())
	if size < 0 {
		return nil
	}
	before := r.data
	r.skip(size)
	if r.err != nil {
		return nil
	}
	return before[:size]
}
