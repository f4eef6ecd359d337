package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// same returns an error unless a command has answered what was wanted.
func same[T any](wanted T) func(T, error) error {
	return func(got T, err error) error {
		if err != nil {
			return err
		}
		if !reflect.DeepEqual(got, wanted) {
			return fmt.Errorf("%v is not %v", got, wanted)
		}
		return nil
	}
}

func types(ctx context.Context, host, port string, more []string) error {
	protocol, err := strconv.Atoi(more[0])
	if err != nil {
		return err
	}
	options := redis.ClusterOptions{Addrs: []string{net.JoinHostPort(host, port)}, Protocol: protocol}
	client := redis.NewClusterClient(&options)
	defer client.Close()
	for number := 0; number < 20; number++ {
		examples := []func(context.Context, *redis.ClusterClient, string) error{hash, list, set, zset, slot}
		for index, example := range examples {
			key := fmt.Sprintf("go-redis:{%d:%d}", index, number)
			if err := client.Del(ctx, key).Err(); err != nil {
				return err
			}
			if err := example(ctx, client, key); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
	}
	fmt.Println("ok types")
	return nil
}

func hash(ctx context.Context, client *redis.ClusterClient, key string) error {
	err := errors.Join(
		same(int64(3))(client.HSet(ctx, key, "name", "Ann", "visits", 1, "gone", "soon").Result()),
		same(int64(5))(client.HIncrBy(ctx, key, "visits", 4).Result()),
		same([]any{"Ann", "5", nil})(client.HMGet(ctx, key, "name", "visits", "none").Result()),
		same(int64(1))(client.HDel(ctx, key, "gone").Result()),
		same(map[string]string{"name": "Ann", "visits": "5"})(client.HGetAll(ctx, key).Result()),
		same([]int64{1, -2})(client.HExpire(ctx, key, 100*time.Second, "name", "none").Result()),
		same([]int64{1})(client.HPersist(ctx, key, "name").Result()),
		same([]int64{-1, -2})(client.HTTL(ctx, key, "name", "none").Result()),
		same([]int64{1})(client.HPExpire(ctx, key, time.Millisecond, "visits").Result()),
	)
	time.Sleep(20 * time.Millisecond)
	return errors.Join(err, same(map[string]string{"name": "Ann"})(client.HGetAll(ctx, key).Result()))
}

func list(ctx context.Context, client *redis.ClusterClient, key string) error {
	err := errors.Join(
		same(int64(3))(client.RPush(ctx, key, "a", "b", "c").Result()),
		same([]string{"a", "b", "c"})(client.LRange(ctx, key, 0, -1).Result()),
		same([]string{key, "a"})(client.BLPop(ctx, time.Second, key).Result()),
		same([]string{"b", "c"})(client.LPopCount(ctx, key, 5).Result()),
	)
	pushed := make(chan error)
	go func() {
		time.Sleep(50 * time.Millisecond)
		pushed <- client.RPush(ctx, key, "late").Err()
	}()
	err = errors.Join(err, same([]string{key, "late"})(client.BRPop(ctx, 10*time.Second, key).Result()), <-pushed)
	if _, none := client.BLPop(ctx, time.Second, key).Result(); none != redis.Nil {
		err = errors.Join(err, fmt.Errorf("an empty list gave %v", none))
	}
	return err
}

func set(ctx context.Context, client *redis.ClusterClient, key string) error {
	members, err := client.SMembers(ctx, key).Result()
	if err != nil || len(members) > 0 {
		return fmt.Errorf("no set has %v, %v", members, err)
	}
	if err := same(int64(3))(client.SAdd(ctx, key, 1, 2, 3).Result()); err != nil {
		return err
	}
	members, err = client.SMembers(ctx, key).Result()
	slices.Sort(members)
	return errors.Join(
		same([]string{"1", "2", "3"})(members, err),
		same([]bool{true, false})(client.SMIsMember(ctx, key, 2, 9).Result()),
		same([]string{"3", "2", "1"})(client.Sort(ctx, key, &redis.Sort{Order: "DESC"}).Result()),
		same([]string{"2"})(client.Sort(ctx, key, &redis.Sort{Offset: 1, Count: 1}).Result()),
		same(int64(1))(client.SRem(ctx, key, 1).Result()),
		same(int64(2))(client.SCard(ctx, key).Result()),
	)
}

func zset(ctx context.Context, client *redis.ClusterClient, key string) error {
	members := []redis.Z{{Score: 1, Member: "one"}, {Score: 2.5, Member: "two"}, {Score: 3, Member: "three"}}
	ranked := []redis.Z{{Score: 2, Member: "one"}, {Score: 2.5, Member: "two"}, {Score: 3, Member: "three"}}
	return errors.Join(
		same(int64(3))(client.ZAdd(ctx, key, members...).Result()),
		same(2.0)(client.ZIncrBy(ctx, key, 1, "one").Result()),
		same(2.5)(client.ZScore(ctx, key, "two").Result()),
		same(ranked)(client.ZRangeWithScores(ctx, key, 0, -1).Result()),
		same([]string{"two", "three"})(client.ZRangeByScore(ctx, key, &redis.ZRangeBy{Min: "2.1", Max: "+inf"}).Result()),
		same(int64(2))(client.ZRank(ctx, key, "three").Result()),
		same(ranked[2:])(client.ZPopMax(ctx, key).Result()),
		same(&redis.ZWithKey{Z: ranked[0], Key: key})(client.BZPopMin(ctx, time.Second, key).Result()),
	)
}

// slot has several keys of one slot.
func slot(ctx context.Context, client *redis.ClusterClient, key string) error {
	one, two, both := key+"one", key+"two", key+"both"
	return errors.Join(
		client.Del(ctx, one, two, both).Err(),
		client.SAdd(ctx, one, "a", "b").Err(),
		client.SAdd(ctx, two, "b", "c").Err(),
		same([]string{"b"})(client.SInter(ctx, one, two).Result()),
		same(int64(3))(client.SUnionStore(ctx, both, one, two).Result()),
	)
}
