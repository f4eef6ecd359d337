// go-redis in cluster mode: client HOST PORT KEYS
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(host, port, count string) error {
	ctx := context.Background()
	keys, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{net.JoinHostPort(host, port)}})
	defer client.Close()
	for number := 0; number < keys; number++ {
		if err := client.Set(ctx, fmt.Sprintf("go-redis:%d", number), number, 0).Err(); err != nil {
			return fmt.Errorf("set %d: %w", number, err)
		}
	}
	for number := 0; number < keys; number++ {
		value, err := client.Get(ctx, fmt.Sprintf("go-redis:%d", number)).Int()
		if err != nil || value != number {
			return fmt.Errorf("get %d: %d, %v", number, value, err)
		}
	}
	// Called for all masters at the same time.
	var masters atomic.Int32
	err = client.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
		masters.Add(1)
		return master.Ping(ctx).Err()
	})
	fmt.Println("ok", keys, masters.Load())
	return err
}
