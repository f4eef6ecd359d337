// go-redis in cluster mode: client HOST PORT KEYS [SECONDS], or HOST PORT types RESP
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(host, port, count string, more []string) error {
	ctx := context.Background()
	if count == "types" {
		return types(ctx, host, port, more)
	}
	keys, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	options := &redis.ClusterOptions{Addrs: []string{net.JoinHostPort(host, port)}}
	if ca := os.Getenv("CLIENT_CA"); ca != "" {
		if options.TLSConfig, err = knownBy(ca); err != nil {
			return err
		}
	}
	client := redis.NewClusterClient(options)
	defer client.Close()
	if err := once(ctx, client, keys); err != nil || len(more) == 0 {
		return err
	}
	seconds, err := strconv.Atoi(more[0])
	if err != nil {
		return err
	}
	onAndOn(ctx, client, keys, time.Duration(seconds)*time.Second)
	return nil
}

// knownBy makes it speak TLS with servers that the CA in that file vouches for.
func knownBy(ca string) (*tls.Config, error) {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate", ca)
	}
	return &tls.Config{RootCAs: roots}, nil
}

func once(ctx context.Context, client *redis.ClusterClient, keys int) error {
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
	err := client.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
		masters.Add(1)
		return master.Ping(ctx).Err()
	})
	if err == nil {
		fmt.Println("ok", keys, masters.Load())
	}
	return err
}

func onAndOn(ctx context.Context, client *redis.ClusterClient, keys int, length time.Duration) {
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		errors := 0
		value := strconv.FormatInt(time.Now().UnixNano(), 10)
		for number := 0; number < keys; number++ {
			key := fmt.Sprintf("go-redis:loop:%d", number)
			err := client.Set(ctx, key, value, 0).Err()
			if err == nil {
				var got string
				if got, err = client.Get(ctx, key).Result(); err == nil && got != value {
					err = fmt.Errorf("was not kept: %s", got)
				}
			}
			if err != nil {
				errors++
				fmt.Fprintf(os.Stderr, "%s: %v\n", key, err)
			}
		}
		fmt.Println("pass", errors)
	}
}
